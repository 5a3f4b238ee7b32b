#!/usr/bin/env python3
"""Writes the test vectors of this directory: `python3 vectors/generate.py`.

An implementation of its own, in another language and on another cryptographic library than the program it tests:
nothing here is shared with the Rust code but the protocol's text. README.md describes every file and field.

Keys are made once and read back from keys.json. OAEP and PSS are randomised, so each run gives new values.
All that was written is read back and checked before the script ends.
"""

import base64
import hashlib
import json
import pathlib
import sys
import uuid

import cryptography
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

HERE = pathlib.Path(__file__).resolve().parent
BITS = 4096
BLOCK = BITS // 8
OAEP_ROOM = BLOCK - 2 * 32 - 2  # 446
SALT_MAX = BLOCK - 32 - 2  # 478
DEPTH_MAX = 32

ALICE = "3f0f6a3e-8d8c-4c57-9a51-5d0c2d1b7a01"
BOB = "b7a2c1d4-52f6-4b0e-8f3a-0c9e64d8e902"
SERVER = "0d9b3c52-6a17-4e8b-b1c4-7f2e90a5d603"
FILE = "5c1e7f90-24ab-4d63-8e0f-a1b2c3d4e504"
TS = 1_760_000_000_000


# --- base64url -------------------------------------------------------------------------------------------------------

def b64u(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def unb64u(text):
    """Exactly base64url without padding, spare bits zero."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64u(raw) != text:
        raise ValueError("not base64url without padding")
    return raw


def unb64u_padded(text):
    """The same, padding tolerated (content from other programs)."""
    return unb64u(text.rstrip("="))


# --- canonical JSON --------------------------------------------------------------------------------------------------

class Refused(Exception):
    """The text is no payload of ours; the argument is the code in canonical.json."""


def depth_of(text):
    """The deepest nesting of objects and arrays, the outermost counting 1. Looks at the text alone."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest


def parse(text):
    def refuse(code):
        raise Refused(code)

    def integer(token):
        value = int(token)
        if not -(2**63) <= value < 2**64:
            refuse("number_range")
        return value

    def members(pairs):
        if len({key for key, _ in pairs}) != len(pairs):
            refuse("duplicate_key")
        return dict(pairs)

    if depth_of(text) > DEPTH_MAX:
        refuse("depth")
    try:
        value = json.loads(text, parse_int=integer, object_pairs_hook=members,
                           parse_float=lambda _: refuse("float"), parse_constant=lambda _: refuse("syntax"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate has no UTF-8
    except (json.JSONDecodeError, UnicodeEncodeError) as error:
        raise Refused("syntax") from error
    return value


def canonical(value, form="utf8"):
    """Sorted by code point (Python compares text that way), no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii={"utf8": False, "escaped": True}[form])


def canonical_bytes(value, form="utf8"):
    return canonical(value, form).encode("utf-8")


# --- keys ------------------------------------------------------------------------------------------------------------

def spki_of(public):
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pkcs8_of(private):
    return private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                                 serialization.NoEncryption())


def der(tag, body):
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 | len(length)]) + length + body


def der_integer(value, extra=b""):
    return der(0x02, extra + value.to_bytes(value.bit_length() // 8 + 1, "big"))


OID_RSA = bytes.fromhex("06092a864886f70d010101")
OID_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")
NULL = b"\x05\x00"


def spki_by_hand(modulus, exponent, algorithm=OID_RSA + NULL, extra=b""):
    key = der(0x30, der_integer(modulus, extra) + der_integer(exponent))
    return der(0x30, der(0x30, algorithm) + der(0x03, b"\x00" + key))


class BadKey(Exception):
    """The argument is the reason in keys.json."""


def der_take(data, tag):
    """One strict DER value of that tag: (body, rest)."""
    if len(data) < 2 or data[0] != tag:
        raise BadKey("encoding")
    size, start = data[1], 2
    if size >= 128:
        count = size & 127
        size, start = int.from_bytes(data[2:2 + count], "big"), 2 + count
        if count == 0 or size < 128 or data[2] == 0:
            raise BadKey("encoding")
    if len(data) < start + size:
        raise BadKey("encoding")
    return data[start:start + size], data[start + size:]


def der_whole(data, tag):
    body, rest = der_take(data, tag)
    if rest:
        raise BadKey("encoding")
    return body


def der_take_integer(data):
    body, rest = der_take(data, 0x02)
    if not body or body[0] > 127 or (len(body) > 1 and body[0] == 0 and body[1] < 128):
        raise BadKey("encoding")
    return int.from_bytes(body, "big"), rest


def read_public_key(text):
    """The key rules, read from the DER by hand, so that no library's own limits stand in for them."""
    if text.endswith("="):
        raise BadKey("padding")
    try:
        data = unb64u(text)
    except ValueError as error:
        raise BadKey("encoding") from error
    algorithm, rest = der_take(der_whole(data, 0x30), 0x30)
    oid, parameters = der_take(algorithm, 0x06)
    bits = der_whole(rest, 0x03)
    if der(0x06, oid) != OID_RSA:
        raise BadKey("algorithm")
    if parameters != NULL or bits[:1] != b"\x00":
        raise BadKey("encoding")
    modulus, rest = der_take_integer(der_whole(bits[1:], 0x30))
    exponent, rest = der_take_integer(rest)
    if rest:
        raise BadKey("encoding")
    if modulus.bit_length() != BITS:
        raise BadKey("modulus_bits")
    if exponent % 2 == 0 or exponent < 65537:
        raise BadKey("exponent")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def with_exponent(private, exponent):
    """The same modulus under another exponent, which the library does not generate."""
    old = private.private_numbers()
    d = pow(exponent, -1, (old.p - 1) * (old.q - 1))
    public = rsa.RSAPublicNumbers(exponent, old.public_numbers.n)
    return rsa.RSAPrivateNumbers(old.p, old.q, d, d % (old.p - 1), d % (old.q - 1), old.iqmp, public).private_key()


def filler_modulus(bits):
    """An odd number of exactly so many bits: nobody's key, only its length matters."""
    raw = hashlib.shake_256(b"modulus of %d bits" % bits).digest((bits + 7) // 8)
    return int.from_bytes(raw, "big") % (1 << bits) | 1 << (bits - 1) | 1


def key_cases():
    path = HERE / "keys.json"
    old = {case["name"]: case for case in json.loads(path.read_text("ascii"))["cases"]} if path.exists() else {}

    def kept_private(name, make):
        if name in old:
            return serialization.load_der_private_key(unb64u(old[name]["pkcs8_b64u"]), None)
        return make()

    def kept_spki(name, make):
        return unb64u(old[name]["spki_b64u"]) if name in old else spki_of(make().public_key())

    keys = {name: kept_private(name, lambda: rsa.generate_private_key(65537, BITS)) for name in ("alice", "bob", "server")}

    def other_exponent():
        while True:
            try:
                return with_exponent(rsa.generate_private_key(65537, BITS), 65539)
            except ValueError:  # 65539 divides p - 1 or q - 1
                pass

    keys["exponent_65539"] = kept_private("exponent_65539", other_exponent)
    cases = [{"name": name, "accept": True, "spki_b64u": b64u(spki_of(key.public_key())), "pkcs8_b64u": b64u(pkcs8_of(key))}
             for name, key in keys.items()]

    def bad(name, reason, spki):
        cases.append({"name": name, "accept": False, "reason": reason,
                      "spki_b64u": spki if isinstance(spki, str) else b64u(spki)})

    for bits in (1024, 2048, 3072, 8192):
        name = f"modulus_{bits}"
        bad(name, "modulus_bits", kept_spki(name, lambda bits=bits: rsa.generate_private_key(65537, bits)))
    for bits in (4088, 4095, 4097, 4104):
        bad(f"modulus_{bits}", "modulus_bits", spki_by_hand(filler_modulus(bits), 65537))
    bad("exponent_3", "exponent", kept_spki("exponent_3", lambda: rsa.generate_private_key(3, BITS)))
    alice = keys["alice"].public_key()
    modulus = alice.public_numbers().n
    for exponent in (1, 17, 65535, 65536, 65538):
        bad(f"exponent_{exponent}", "exponent", spki_by_hand(modulus, exponent))
    bad("ed25519", "algorithm", kept_spki("ed25519", ed25519.Ed25519PrivateKey.generate))
    bad("ec_p256", "algorithm", kept_spki("ec_p256", lambda: ec.generate_private_key(ec.SECP256R1())))
    bad("rsassa_pss_oid", "algorithm", spki_by_hand(modulus, 65537, OID_RSA_PSS))

    spki = spki_of(alice)
    text = b64u(spki)
    pem = alice.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pkcs1 = alice.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    standard = next(standard for standard in (base64.b64encode(spki_of(key.public_key())).decode().rstrip("=")
                                              for key in keys.values()) if "+" in standard or "/" in standard)
    spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bad("empty", "encoding", "")
    bad("truncated_by_one", "encoding", spki[:-1])
    bad("truncated_to_half", "encoding", spki[:275])
    bad("trailing_byte", "encoding", spki + b"\x00")
    bad("two_keys", "encoding", spki + spki)
    bad("modulus_with_needless_zero", "encoding", spki_by_hand(modulus, 65537, extra=b"\x00"))
    bad("pkcs1_public_key", "encoding", pkcs1)
    bad("private_key", "encoding", pkcs8_of(with_exponent(keys["exponent_65539"], 65537)))
    bad("pem_text", "encoding", pem.decode())
    bad("pem_text_in_base64url", "encoding", b64u(pem))
    bad("padded", "padding", text + "=" * (-len(text) % 4))
    bad("standard_alphabet", "encoding", standard)
    bad("spare_bits_set", "encoding", text[:-1] + spare[spare.index(text[-1]) + 1])
    bad("inner_newline", "encoding", text[:64] + "\n" + text[64:])
    bad("leading_space", "encoding", " " + text)
    bad("length_1_mod_4", "encoding", text[:733])
    bad("word", "encoding", "dummy_pubkey")
    return keys, cases


# --- signatures and encryption ---------------------------------------------------------------------------------------

SHA256 = hashes.SHA256()
SHA1 = hashes.SHA1()


def pss(salt, mgf=SHA256):
    return padding.PSS(padding.MGF1(mgf), salt)


def sign(private, preimage, salt=32, mgf=SHA256, digest=SHA256):
    return private.sign(preimage, pss(salt, mgf), digest)


def verifies(public, signature, preimage):
    if len(signature) != BLOCK:
        return False
    try:
        public.verify(signature, preimage, pss(padding.PSS.AUTO), SHA256)
        return True
    except InvalidSignature:
        return False


def oaep(digest=SHA256, mgf=SHA256, label=None):
    return padding.OAEP(padding.MGF1(mgf), digest, label)


def seal(public, plaintext, cut=OAEP_ROOM, scheme=None):
    pieces = [plaintext[at:at + cut] for at in range(0, len(plaintext), cut)] or [b""]
    return b"".join(public.encrypt(piece, scheme or oaep()) for piece in pieces)


def opens(private, ciphertext):
    """The plaintext, or None."""
    if not ciphertext or len(ciphertext) % BLOCK:
        return None
    try:
        return b"".join(private.decrypt(ciphertext[at:at + BLOCK], oaep()) for at in range(0, len(ciphertext), BLOCK))
    except ValueError:
        return None


def flip(raw, bit):
    out = bytearray(raw)
    out[bit // 8] ^= 128 >> bit % 8
    return bytes(out)


def ascii_join(*parts):
    return "".join(str(part) for part in parts).encode("ascii")


# --- canonical.json --------------------------------------------------------------------------------------------------

def nest_objects(depth):
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


def nest_arrays(depth):
    return '{"a":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def nest_mixed(depth):
    """Object, array, object …"""
    opening = ['{"a":' if level % 2 == 0 else "[" for level in range(depth)]
    closing = ["}" if level % 2 == 0 else "]" for level in reversed(range(depth))]
    return "".join(opening) + "0" + "".join(closing)


def canonical_cases():
    cases = []

    def take(name, text):
        value = parse(text)
        cases.append({"name": name, "input": text, "utf8": canonical(value), "escaped": canonical(value, "escaped")})

    def refuse(name, code, text):
        cases.append({"name": name, "input": text, "refuse": code})

    take("empty object", "{}")
    take("empty object with white space", " \t\r\n{ \t\r\n} \t\r\n")
    take("empty array, object and string", '{"o": {}, "s": "", "a": [ ]}')
    take("keys sorted", '{"b":1,"a":2,"c":3}')
    take("keys sorted at every depth",
         '{"z":{"y":{"d":1,"c":2},"x":[{"b":1,"a":2},{"d":[{"f":1,"e":2}],"c":4}]},"a":{"n":{},"m":[]}}')
    take("array order kept", '{"a":[3,1,2,"b","a",[2,1],{"b":0,"a":0}]}')
    take("literals", '{"t":true,"f":false,"n":null,"a":[null,true,false]}')
    take("white space everywhere", '\n{ "b" :\t[ 1 ,\r2 , { "d" : null , "c" : " a  b " } ] , "a" : "x" }\n')
    take("keys: prefixes, the empty one, case, digits", '{"aa":1,"a":2,"":3,"A":4,"a1":5,"10":6,"9":7,"_":8,"a b":9}')
    take("keys: punctuation against letters", '{"~":1,"a":2,"Z":3,"\\\\":4,"\\"":5,"/":6,"!":7," ":8}')
    take("keys: control characters", '{"b":1,"a\\u0000":2,"a":3,"\\u001f":4,"\\n":5,"a\\u007f":6}')
    take("keys sorted after unescaping", '{"\\u0062":1,"a":2,"\\u0041":3}')
    take("keys: two, three and four bytes", '{"\U0001f600":1,"€":2,"é":3,"z":4,"ß":5,"中":6}')
    take("keys: UTF-16 order differs, U+FFEE and an emoji", '{"\U0001f600":1,"\uffee":2}')
    take("keys: UTF-16 order differs, U+FFFF and U+10000", '{"\U00010000":1,"\uffff":2,"\ud7ff":3,"\ue000":4,"\U0010ffff":5}')
    take("keys: UTF-16 order differs, escapes in the input", '{"\\ud83d\\ude00":1,"\\uffee":2,"\\ue000x":3}')
    take("keys: UTF-16 order differs, after a common prefix and nested", '{"k":{"a\U0001f600":1,"a\uffee":2,"a":3}}')
    take("keys: composed and decomposed are two", '{"e\u0301":1,"\u00e9":2}')
    take("values: two bytes", '{"a":"é ü ß Ω ж"}')
    take("values: three bytes", '{"a":"€ 中文 \u2028\u2029 \ufeff"}')
    take("values: astral", '{"a":"\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U00010000\U0010ffff"}')
    take("values: the last of each UTF-8 length", '{"a":"\u0080\u07ff\u0800\ud7ff\ue000\ufffd\ufffe\uffff"}')
    take("values: U+007F raw", '{"a":"x\u007fy"}')
    take("values: U+007F escaped", '{"a":"\\u007f","b":"\\u007F"}')
    take("values: U+007E and U+0080 around it", '{"a":"~\u0080"}')
    take("values: short escapes", '{"a":"\\b\\f\\n\\r\\t\\"\\\\\\/"}')
    take("values: short escapes spelt as \\u", '{"a":"\\u0008\\u000c\\u000a\\u000d\\u0009\\u0022\\u005c\\u002f"}')
    take("values: every control character", '{"a":"' + "".join(f"\\u{code:04x}" for code in range(32)) + '"}')
    take("values: every control character, capital digits",
         '{"a":"' + "".join(f"\\u{code:04X}" for code in range(32)) + '"}')
    take("values: quotes and backslashes", '{"a":"\\"","b":"\\\\","c":"\\\\\\"","d":"\\\\u0041","e":"C:\\\\n"}')
    take("values: slash raw and escaped", '{"a":"/","b":"\\/","c":"http:\\/\\/x/y"}')
    take("values: ASCII spelt as escapes", '{"\\u0061":"\\u0041\\u0062\\u0063\\u0020\\u007e"}')
    take("values: non-ASCII spelt as escapes", '{"a":"\\u00e9\\u00E9\\u20ac\\u20AC\\uffff"}')
    take("values: surrogate pair escapes", '{"a":"\\ud83d\\ude00","b":"\\uD800\\uDC00","c":"\\udbff\\udfff"}')
    take("values: surrogate pair escapes and raw text mixed", '{"a":"\U0001f600\\ud83d\\ude00é\\u00e9"}')
    take("values: an escaped backslash before u", '{"a":"\\\\ud800"}')
    take("values: HTML and script characters", '{"a":"<b>&amp;</b>\'"}')
    take("values: braces, colons and commas in text", '{"b":"}],[{:\\"","a":"{\\"a\\":1.5}"}')
    take("values: numbers as text", '{"a":"1.0","b":"1e3","c":"NaN","d":"007"}')
    take("integers: small", '{"a":0,"b":1,"c":-1,"d":10,"e":1000000}')
    take("integers: around 2^53", f'{{"a":{2**53 - 1},"b":{2**53},"c":{2**53 + 1},"d":{-2**53 - 1}}}')
    take("integers: i64 and u64 ends", f'{{"a":{-2**63},"b":{2**63 - 1},"c":{2**63},"d":{2**64 - 1}}}')
    take("integers: a time", f'{{"ts":{TS}}}')
    take("depth 32: objects", nest_objects(32))
    take("depth 32: arrays in an object", nest_arrays(32))
    take("depth 32: mixed", nest_mixed(32))
    take("depth 32 reached twice, side by side", '{"b":' + nest_arrays(31) + ',"a":' + nest_objects(31) + "}")
    take("depth: brackets in text do not count", '{"a":"' + "[{" * 40 + '"}')
    take("a user hello", json.dumps({"pubkey": "AAAA", "enc_pubkey": "AAAA", "client": "cli/1", "caps": ["proof/1", "ack/1"]}))
    take("an advertise with a non-ASCII name",
         '{"user_id":"' + ALICE + '","server_id":"' + SERVER + '","meta":{"pronouns":"she/her","display_name":"Älice \U0001f984"}}')

    refuse("duplicate key", "duplicate_key", '{"a":1,"a":2}')
    refuse("duplicate key, equal values", "duplicate_key", '{"a":1,"b":2,"a":1}')
    refuse("duplicate key, nested", "duplicate_key", '{"a":{"b":1,"c":2,"b":3}}')
    refuse("duplicate key, in an array", "duplicate_key", '{"a":[{"b":1},{"b":1,"b":1}]}')
    refuse("duplicate key, one escaped", "duplicate_key", '{"a":1,"\\u0061":2}')
    refuse("duplicate key, empty", "duplicate_key", '{"":1,"":2}')
    refuse("duplicate key, astral, one escaped", "duplicate_key", '{"\U0001f600":1,"\\ud83d\\ude00":2}')
    refuse("depth 33: objects", "depth", nest_objects(33))
    refuse("depth 33: arrays in an object", "depth", nest_arrays(33))
    refuse("depth 33: mixed", "depth", nest_mixed(33))
    refuse("depth 33: in the second member", "depth", '{"a":{},"b":' + nest_arrays(32) + "}")
    refuse("depth 1000", "depth", nest_arrays(1000))
    refuse("float 1.0", "float", '{"a":1.0}')
    refuse("float 1e3", "float", '{"a":1e3}')
    refuse("float 1E3", "float", '{"a":1E3}')
    refuse("float 1e+3", "float", '{"a":1e+3}')
    refuse("float 1e-3", "float", '{"a":1e-3}')
    refuse("float 1e400", "float", '{"a":1e400}')
    refuse("float 1.5", "float", '{"a":1.5}')
    refuse("float -0.0", "float", '{"a":-0.0}')
    refuse("float nested", "float", '{"a":[{"b":[0,0.5]}]}')
    refuse("integer u64 max + 1", "number_range", f'{{"a":{2**64}}}')
    refuse("integer i64 min - 1", "number_range", f'{{"a":{-2**63 - 1}}}')
    refuse("integer of 40 digits", "number_range", '{"a":' + "9" * 40 + "}")
    refuse("integer of 40 digits, nested and negative", "number_range", '{"a":[{"b":-' + "9" * 40 + "}]}")
    for name, text in [
        ("NaN", '{"a":NaN}'), ("Infinity", '{"a":Infinity}'), ("-Infinity", '{"a":-Infinity}'),
        ("lone high surrogate", '{"a":"\\ud800"}'), ("lone low surrogate", '{"a":"\\udc00"}'),
        ("surrogates in the wrong order", '{"a":"\\ude00\\ud83d"}'), ("high surrogate before a letter", '{"a":"\\ud83dA"}'),
        ("two high surrogates", '{"a":"\\ud83d\\ud83d\\ude00"}'), ("lone surrogate in a key", '{"\\ud800":1}'),
        ("empty text", ""), ("white space only", "  "), ("byte order mark", "\ufeff{}"),
        ("trailing garbage", "{}x"), ("two objects", "{} {}"), ("trailing NUL", "{}\u0000"),
        ("trailing comma in an object", '{"a":1,}'), ("trailing comma in an array", '{"a":[1,]}'),
        ("leading comma", '{,"a":1}'), ("double comma", '{"a":[1,,2]}'), ("missing comma", '{"a":1 "b":2}'),
        ("missing colon", '{"a" 1}'), ("missing value", '{"a":}'), ("unclosed object", '{"a":1'),
        ("unclosed array", '{"a":[1}'), ("unclosed string", '{"a":"x}'), ("mismatched brackets", '{"a":[1}]'),
        ("bare key", "{a:1}"), ("number as key", "{1:1}"), ("single quotes", "{'a':1}"), ("comment", '{"a":1/**/}'),
        ("raw newline in a string", '{"a":"x\ny"}'), ("raw tab in a string", '{"a":"x\ty"}'),
        ("raw NUL in a string", '{"a":"x\u0000y"}'), ("raw U+001F in a key", '{"\u001f":1}'),
        ("leading zero", '{"a":01}'), ("leading zeros, negative", '{"a":-01}'), ("double zero", '{"a":00}'),
        ("plus sign", '{"a":+1}'), ("minus alone", '{"a":-}'), ("hexadecimal", '{"a":0x10}'), ("dot without digits", '{"a":1.}'),
        ("digits after a bare dot", '{"a":.5}'), ("exponent without digits", '{"a":1e}'), ("thousands separator", '{"a":1_000}'),
        ("unknown escape", '{"a":"\\x41"}'), ("short \\u escape", '{"a":"\\u41"}'), ("bad hexadecimal digit", '{"a":"\\u00g1"}'),
        ("capital U escape", '{"a":"\\U0001f600"}'), ("capital literal", '{"a":True}'), ("cut literal", '{"a":nul}'),
        ("other white space: no-break space", '{"a":\u00a01}'), ("other white space: form feed", '{"a":\u000c1}'),
    ]:
        refuse(name, "syntax", text)
    return cases


def check_canonical(cases, _keys):
    for case in cases:
        if "refuse" in case:
            try:
                parse(case["input"])
                raise AssertionError(case["name"])
            except Refused as refusal:
                assert refusal.args == (case["refuse"],), (case["name"], refusal.args)
            continue
        for form in ("utf8", "escaped"):
            assert canonical(parse(case["input"]), form) == case[form], case["name"]
            assert canonical(parse(case[form]), form) == case[form], case["name"]
        assert case["escaped"].isascii() and "\u007f" not in case["escaped"], case["name"]


# --- transport.json --------------------------------------------------------------------------------------------------

def transport_cases(keys):
    cases = []

    def add(name, key, payload, salt, form, signature, valid):
        cases.append({"name": name, "key": key, "payload": payload, "salt": salt, "form": form,
                      "sig_b64u": b64u(signature), "valid": valid})

    def signed(key, payload, salt, form="utf8", **how):
        return sign(keys[key], canonical_bytes(parse(payload), form), salt, **how)

    heartbeat = "{}"
    announce = '{"port": 8765, "host": "127.0.0.1", "pubkey": "AAAA"}'
    nested = '{ "user_id":"' + ALICE + '", "server_id":"' + SERVER + '", "meta":{"extras":{"b":[2,1],"a":null},"age":7} }'
    foreign = '{"user_id":"' + BOB + '","server_id":"' + SERVER + '","meta":{"display_name":"B\u00f6b \U0001f984 中文"}}'
    sorting = '{"\U0001f600":1,"\\uffee":2,"\u00e9":"\\u00e9","a":"\\/"}'
    delete = '{"detail":"x\u007fy","code":"TIMEOUT"}'

    for salt in (32, SALT_MAX, 0, 20):
        add(f"ASCII payload, salt {salt}", "server", announce, salt, "utf8", signed("server", announce, salt), True)
        add(f"empty payload, salt {salt}", "server", heartbeat, salt, "utf8", signed("server", heartbeat, salt), True)
        for form in ("utf8", "escaped"):
            add(f"non-ASCII payload, {form}, salt {salt}", "alice", foreign, salt, form, signed("alice", foreign, salt, form), True)
    for form in ("utf8", "escaped"):
        add(f"nested ASCII payload, {form}", "bob", nested, 32, form, signed("bob", nested, 32, form), True)
        add(f"keys in code point order, {form}", "bob", sorting, 32, form, signed("bob", sorting, 32, form), True)
        add(f"U+007F is all that differs, {form}", "server", delete, 32, form, signed("server", delete, 32, form), True)
    add("exponent 65539", "exponent_65539", announce, 32, "utf8", signed("exponent_65539", announce, 32), True)
    add("exponent 65539, largest salt", "exponent_65539", announce, SALT_MAX, "utf8",
        signed("exponent_65539", announce, SALT_MAX), True)

    good = signed("server", announce, 32)
    for place, bit in (("first", 7), ("middle", BLOCK * 4), ("last", BLOCK * 8 - 1)):
        add(f"bit flipped: {place}", "server", announce, 32, "utf8", flip(good, bit), False)
    add("by another key", "server", announce, 32, "utf8", signed("alice", announce, 32), False)
    add("by another key, largest salt", "alice", foreign, SALT_MAX, "escaped", signed("bob", foreign, SALT_MAX, "escaped"), False)
    add("payload changed: a value", "server", announce.replace("8765", "8766"), 32, "utf8", good, False)
    add("payload changed: a member more", "server", announce[:-1] + ', "x": 1}', 32, "utf8", good, False)
    add("payload changed: now empty", "server", heartbeat, 32, "utf8", good, False)
    add("payload changed: another case", "server", announce.replace("AAAA", "aAAA"), 32, "utf8", good, False)
    add("payload changed: a number as text", "server", announce.replace("8765", '"8765"'), 32, "utf8", good, False)
    add("payload changed: composed to decomposed", "alice", foreign.replace("\u00f6", "o\u0308"), 32, "utf8",
        signed("alice", foreign, 32), False)
    add("over the text as sent, not canonical", "server", announce, 32, "utf8", sign(keys["server"], announce.encode()), False)
    half = canonical(parse(foreign)).replace("\u00f6", "\\u00f6").encode()
    add("over a form that escapes one character only", "alice", foreign, 32, "escaped", sign(keys["alice"], half), False)
    upper = canonical(parse(foreign), "escaped").replace("\\u00f6", "\\u00F6").encode()
    add("over escapes in capital digits", "alice", foreign, 32, "escaped", sign(keys["alice"], upper), False)
    utf16 = json.dumps({"a": "/", "\u00e9": "\u00e9", "\U0001f600": 1, "\uffee": 2}, separators=(",", ":"), ensure_ascii=False)
    add("over keys in UTF-16 order", "bob", sorting, 32, "utf8", sign(keys["bob"], utf16.encode()), False)
    add("over nothing, payload empty", "server", heartbeat, 32, "utf8", sign(keys["server"], b""), False)
    add("hashed twice", "server", announce, 32, "utf8",
        sign(keys["server"], hashlib.sha256(canonical_bytes(parse(announce))).digest()), False)
    add("MGF1 with SHA-1", "server", announce, 32, "utf8", signed("server", announce, 32, mgf=SHA1), False)
    add("SHA-1 throughout", "server", announce, 20, "utf8", signed("server", announce, 20, mgf=SHA1, digest=SHA1), False)
    add("SHA-512 with MGF1-SHA-256", "server", announce, 32, "utf8", signed("server", announce, 32, digest=hashes.SHA512()), False)
    add("PKCS#1 v1.5", "server", announce, 0, "utf8",
        keys["server"].sign(canonical_bytes(parse(announce)), padding.PKCS1v15(), SHA256), False)
    add("short by one byte", "server", announce, 32, "utf8", good[:-1], False)
    add("long by a leading zero", "server", announce, 32, "utf8", b"\x00" + good, False)
    add("long by a trailing zero", "server", announce, 32, "utf8", good + b"\x00", False)
    add("twice in a row", "server", announce, 32, "utf8", good + good, False)
    add("256 bytes", "server", announce, 32, "utf8", good[:256], False)
    add("64 bytes", "server", announce, 32, "utf8", good[:64], False)
    add("empty signature", "server", announce, 32, "utf8", b"", False)
    add("all zero", "server", announce, 32, "utf8", bytes(BLOCK), False)
    add("all ones, above the modulus", "server", announce, 32, "utf8", b"\xff" * BLOCK, False)
    name, modulus = min(((name, key.public_key().public_numbers().n) for name, key in keys.items()), key=lambda pair: pair[1])
    for _ in range(2000):
        raised = int.from_bytes(signed(name, announce, 32), "big") + modulus
        if raised < 1 << BITS:
            break
    else:
        raise AssertionError("no signature leaves room for the modulus on top")
    add("a good one plus the modulus", name, announce, 32, "utf8", raised.to_bytes(BLOCK, "big"), False)
    return cases


def check_transport(cases, publics):
    for case in cases:
        value, signature = parse(case["payload"]), unb64u(case["sig_b64u"])
        hits = [form for form in ("utf8", "escaped")
                if verifies(publics[case["key"]], signature, canonical_bytes(value, form))]
        assert (case["form"] in hits) == case["valid"] and bool(hits) == case["valid"], case["name"]


# --- proof.json ------------------------------------------------------------------------------------------------------

def made_from(public):
    """The user id that is made from a key: the first half of its fingerprint as a UUID v4."""
    return str(uuid.UUID(bytes=hashlib.sha256(spki_of(public)).digest()[:16], version=4))


def proof_cases(keys):
    cases = []
    server = keys["server"].public_key()

    def add(name, signature, valid, key="alice", **change):
        public = keys[key].public_key()
        hello = canonical({"client": "v\u00ebctor", "pubkey": b64u(spki_of(public)), "caps": ["proof/1"], "ts": TS})
        payload = {"nonce": b64u(bytes(range(32))), "server_id": SERVER, "key": b64u(hashlib.sha256(spki_of(server)).digest()),
                   "by": made_from(public), "hello": b64u(hashlib.sha256(hello.encode()).digest()), "ts": TS + 1000}
        signed = signature(canonical_bytes(payload))
        cases.append({"name": name, "key": key, "user_id": made_from(public), "server_key": "server", "hello": hello,
                      "payload": canonical(payload | change), "sig_b64u": b64u(signed), "valid": valid})

    def of(key, domain=b"socp-proof-v1\0", salt=32):
        return lambda payload: sign(keys[key], domain + payload, salt)

    add("a user's proof", of("alice"), True)
    add("largest salt", of("alice", salt=SALT_MAX), True)
    add("exponent 65539", of("exponent_65539"), True, "exponent_65539")
    add("by another key", of("bob"), False)
    add("without the domain", of("alice", b""), False)
    add("without the zero byte", of("alice", b"socp-proof-v1"), False)
    add("in another domain", of("alice", b"socp-frame-v1\0"), False)
    add("the domain behind", lambda payload: sign(keys["alice"], payload + b"socp-proof-v1\0"), False)
    add("another nonce", of("alice"), False, nonce=b64u(bytes(32)))
    add("another server", of("alice"), False, server_id=BOB)
    add("another time", of("alice"), False, ts=TS)
    return cases


def check_proof(cases, publics):
    for case in cases:
        payload, public = parse(case["payload"]), publics[case["key"]]
        assert payload["hello"] == b64u(hashlib.sha256(case["hello"].encode()).digest()), case["name"]
        assert payload["by"] == case["user_id"] == made_from(public), case["name"]
        preimage = b"socp-proof-v1\0" + canonical_bytes(payload)
        assert verifies(public, unb64u(case["sig_b64u"]), preimage) == case["valid"], case["name"]


# --- oaep.json -------------------------------------------------------------------------------------------------------

def oaep_cases(keys):
    cases = []
    publics = {name: key.public_key() for name, key in keys.items()}

    def add(name, key, plaintext, ciphertext, valid):
        kind = ("plaintext_utf8", plaintext) if isinstance(plaintext, str) else ("plaintext_hex", plaintext.hex())
        cases.append({"name": name, "key": key, kind[0]: kind[1], "ciphertext_b64u": b64u(ciphertext), "valid": valid})

    def sealed(name, key, plaintext, **how):
        raw = plaintext.encode() if isinstance(plaintext, str) else plaintext
        add(name, key, plaintext, seal(publics[key], raw, **how), True)

    every_byte = bytes(range(256)) * 4
    sealed("empty plaintext, one block", "alice", "")
    sealed("one byte", "alice", "x")
    sealed("one zero byte", "alice", b"\x00")
    sealed("a short text", "bob", "hello bob")
    sealed("a short non-ASCII text", "bob", "grüß dich, \U0001f44b 中文")
    sealed("445 bytes", "alice", every_byte[:445])
    sealed("446 bytes, the most one block holds", "alice", every_byte[:446])
    sealed("447 bytes, two blocks", "alice", every_byte[:447])
    sealed("892 bytes, two full blocks", "bob", every_byte[:892])
    sealed("893 bytes, three blocks", "bob", every_byte[:893])
    sealed("1000 bytes", "alice", every_byte[:1000])
    sealed("leading and trailing zero bytes", "bob", bytes(20) + b"x" + bytes(600))
    sealed("a two-byte character across the cut", "alice", "a" * 445 + "é" + "b" * 10)
    sealed("a three-byte character across the cut, one byte before it", "alice", "a" * 445 + "€ b")
    sealed("a three-byte character across the cut, two bytes before it", "alice", "a" * 444 + "€ b")
    sealed("a four-byte character across the cut, two bytes before it", "bob", "a" * 444 + "\U0001f984 b")
    sealed("three-byte characters throughout, two cuts inside one", "bob", "x" + "中" * 330)
    sealed("exponent 65539", "exponent_65539", "hello")
    sealed("blocks not filled: cut every 200 bytes", "alice", every_byte[:500], cut=200)

    text = "hello alice"
    good = seal(publics["alice"], text.encode())
    two = seal(publics["alice"], every_byte[:600])
    add("MGF1 with SHA-1", "alice", text, seal(publics["alice"], text.encode(), scheme=oaep(mgf=SHA1)), False)
    add("SHA-1 throughout", "alice", text, seal(publics["alice"], text.encode(), scheme=oaep(SHA1, SHA1)), False)
    add("SHA-512 throughout", "alice", text, seal(publics["alice"], text.encode(), scheme=oaep(hashes.SHA512(), hashes.SHA512())), False)
    add("label not empty", "alice", text, seal(publics["alice"], text.encode(), scheme=oaep(label=b"socp")), False)
    add("PKCS#1 v1.5", "alice", text, publics["alice"].encrypt(text.encode(), padding.PKCS1v15()), False)
    add("for another key", "alice", text, seal(publics["bob"], text.encode()), False)
    add("second block for another key", "alice", every_byte[:600],
        two[:BLOCK] + seal(publics["bob"], every_byte[446:600]), False)
    add("bit flipped: first block", "alice", text, flip(good, BLOCK * 4), False)
    add("bit flipped: second block", "alice", every_byte[:600], flip(two, BLOCK * 12), False)
    add("empty ciphertext", "alice", "", b"", False)
    add("short by one byte", "alice", text, good[:-1], False)
    add("long by a leading zero", "alice", text, b"\x00" + good, False)
    add("long by a trailing zero", "alice", text, good + b"\x00", False)
    add("two blocks, the second cut", "alice", every_byte[:600], two[:-1], False)
    add("256 bytes", "alice", text, good[:256], False)
    add("plaintext sent as it is", "alice", text, text.encode(), False)
    add("all ones, above the modulus", "alice", text, b"\xff" * BLOCK, False)
    add("all zero", "alice", text, bytes(BLOCK), False)
    return cases


def plaintext_of(case):
    assert ("plaintext_utf8" in case) != ("plaintext_hex" in case), case["name"]
    return case["plaintext_utf8"].encode() if "plaintext_utf8" in case else bytes.fromhex(case["plaintext_hex"])


def check_oaep(cases, privates):
    for case in cases:
        ciphertext = unb64u(case["ciphertext_b64u"])
        got = opens(privates[case["key"]], ciphertext)
        assert got == (plaintext_of(case) if case["valid"] else None), case["name"]


# --- content.json ----------------------------------------------------------------------------------------------------

FAMILIES = ("text", "raw", "json")


def content_preimage(family, prehashed, ciphertext, sender, to, ts):
    preimage = {
        "text": lambda: ascii_join(ciphertext, sender, to, ts),
        "raw": lambda: unb64u_padded(ciphertext) + ascii_join(sender, to, ts),
        "json": lambda: canonical_bytes({"ciphertext": ciphertext, "from": sender, "to": to, "ts": ts}),
    }[family]()
    return hashlib.sha256(preimage).digest() if prehashed else preimage


def content_cases(keys, sealed):
    cases = []

    def add(name, key, family, valid, ciphertext, prehashed=False, salt=32, sender=ALICE, to=BOB, ts=TS,
            signer=None, signature=None, change=None):
        """Signs what the arguments say, with the key `signer` or else `key`, then shows it with `change`."""
        if signature is None:
            preimage = content_preimage(family, prehashed, ciphertext, sender, to, ts)
            signature = sign(keys[signer or key], preimage, salt)
        case = {"name": name, "key": key, "ciphertext": ciphertext, "from": sender, "to": to, "ts": ts, "family": family,
                "prehashed": prehashed, "salt": salt, "sig_b64u": b64u(signature), "valid": valid}
        cases.append(case | (change or {}))

    one, other, two = sealed["a short text"], sealed["a short non-ASCII text"], sealed["892 bytes, two full blocks"]
    for family in FAMILIES:
        for prehashed in (False, True):
            for salt in (32, SALT_MAX):
                times = "twice" if prehashed else "once"
                add(f"{family}, hashed {times}, salt {salt}", "alice", family, True, one, prehashed, salt)
    for family in FAMILIES:
        add(f"{family}, two blocks", "alice", family, True, two)
        add(f"{family}, ids that are names", "alice", family, True, other, sender="alice", to="bob", ts=TS + 1)
        add(f"{family}, exponent 65539", "exponent_65539", family, True, one)
        add(f"{family}, ciphertext with padding, as other programs may send", "alice", family, True, one + "=")
    add("text, ts 0", "alice", "text", True, one, ts=0)
    add("json, ts above 2^53", "alice", "json", True, one, ts=2**53 + 1)

    for family in FAMILIES:
        for prehashed in (False, True):
            times = "twice" if prehashed else "once"
            add(f"{family}, hashed {times}, ts off by one", "alice", family, False, one, prehashed, change={"ts": TS + 1})
        for name, change in [("to changed", {"to": ALICE}), ("from changed", {"from": SERVER}),
                             ("from and to swapped", {"from": BOB, "to": ALICE}), ("ciphertext changed", {"ciphertext": other})]:
            add(f"{family}, {name}", "alice", family, False, one, change=change)
        add(f"{family}, by another key", "alice", family, False, one, signer="bob")
        add(f"{family}, by another key, hashed twice, salt 478", "alice", family, False, one, True, SALT_MAX, signer="bob")
        wrecked = flip(sign(keys["alice"], content_preimage(family, False, one, ALICE, BOB, TS)), BLOCK * 4)
        add(f"{family}, bit flipped", "alice", family, False, one, signature=wrecked)
    for name, preimage in [
        ("ciphertext text alone", one.encode()),
        ("raw ciphertext alone", unb64u(one)),
        ("names and time in front", ascii_join(ALICE, BOB, TS, one)),
        ("separators between the parts", "|".join((one, ALICE, BOB, str(TS))).encode()),
        ("ts in seconds", ascii_join(one, ALICE, BOB, TS // 1000)),
        ("json with spaces", json.dumps({"ciphertext": one, "from": ALICE, "to": BOB, "ts": TS}).encode()),
        ("json with ts as text", canonical_bytes({"ciphertext": one, "from": ALICE, "to": BOB, "ts": str(TS)})),
        ("json with a member more", canonical_bytes({"ciphertext": one, "from": ALICE, "to": BOB, "ts": TS, "v": 1})),
        ("SHA-256 in hexadecimal", hashlib.sha256(ascii_join(one, ALICE, BOB, TS)).hexdigest().encode()),
        ("hashed three times", hashlib.sha256(content_preimage("text", True, one, ALICE, BOB, TS)).digest()),
        ("nothing", b""),
    ]:
        add(f"preimage of no family: {name}", "alice", "text", False, one, signature=sign(keys["alice"], preimage))
    good = content_preimage("text", False, one, ALICE, BOB, TS)
    add("MGF1 with SHA-1", "alice", "text", False, one, signature=sign(keys["alice"], good, mgf=SHA1))
    add("PKCS#1 v1.5", "alice", "text", False, one, salt=0, signature=keys["alice"].sign(good, padding.PKCS1v15(), SHA256))
    add("short by one byte", "alice", "text", False, one, signature=sign(keys["alice"], good)[:-1])
    return cases


def check_content(cases, publics):
    for case in cases:
        signature = unb64u(case["sig_b64u"])
        fields = (case["ciphertext"], case["from"], case["to"], case["ts"])
        hits = [(family, prehashed) for prehashed in (False, True) for family in FAMILIES
                if verifies(publics[case["key"]], signature, content_preimage(family, prehashed, *fields))]
        assert hits == ([(case["family"], case["prehashed"])] if case["valid"] else []), case["name"]


# --- channel.json, files.json ----------------------------------------------------------------------------------------

def channel_preimage(case):
    if case["kind"] == "message":
        return ascii_join(case["ciphertext"], case["from"], case["ts"])
    return canonical_bytes(parse('{"shares":' + case["shares"] + "}")["shares"]) + unb64u(case["creator_pub"])


def files_preimage(case):
    if case["kind"] == "start":
        fields = {key: case[key] for key in ("file_id", "from", "mode", "sha256", "size", "to", "ts")}
        return canonical_bytes(fields | {"name": case["file_name"]})
    return ascii_join(*(case[key] for key in ("ciphertext", "from", "to", "ts", "file_id", "index", "total")))


def case_adder(cases, keys, preimage):
    """add(name, key, valid, fields, signer=, salt=, change=): signs `fields`, then shows them with `change`."""
    def add(name, key, valid, fields, signer=None, salt=32, change=None, over=None, wreck=lambda raw: raw):
        signature = wreck(sign(keys[signer or key], over or preimage(fields), salt))
        cases.append({"name": name, "key": key} | fields | (change or {})
                     | {"salt": salt, "sig_b64u": b64u(signature), "valid": valid})
    return add


def channel_cases(keys, sealed):
    cases = []
    add = case_adder(cases, keys, channel_preimage)
    message = {"kind": "message", "ciphertext": sealed["a short text"], "from": ALICE, "ts": TS}
    add("message, salt 32", "alice", True, message)
    add("message, salt 478", "alice", True, message, salt=SALT_MAX)
    add("message, two blocks", "alice", True, message | {"ciphertext": sealed["892 bytes, two full blocks"]})
    add("message, author's id a name", "bob", True, message | {"from": "bob", "ts": TS + 5})
    add("message, exponent 65539", "exponent_65539", True, message)
    add("message, ts off by one", "alice", False, message, change={"ts": TS + 1})
    add("message, from changed", "alice", False, message, change={"from": BOB})
    add("message, ciphertext changed", "alice", False, message, change={"ciphertext": sealed["a short non-ASCII text"]})
    add("message, by another key", "alice", False, message, signer="bob")
    add("message, bit flipped", "alice", False, message, wreck=lambda raw: flip(raw, BLOCK * 4))
    add("message, time in front", "alice", False, message, over=ascii_join(TS, ALICE, sealed["a short text"]))

    def share(member, key, **more):
        wrapped = seal(keys[key].public_key(), hashlib.sha256(b"channel key").digest())
        return {"member": member, "wrapped_public_channel_key": b64u(wrapped)} | more

    shares = [share(BOB, "bob"), share(ALICE, "alice")]
    spki = {name: b64u(spki_of(key.public_key())) for name, key in keys.items()}
    text = json.dumps(shares)
    swapped_members = json.dumps([{**shares[0], "member": ALICE}, {**shares[1], "member": BOB}])
    unsorted = json.dumps([{key: one[key] for key in reversed(sorted(one))} for one in shares], indent=1)
    keyed = {"kind": "key_share", "shares": text, "creator_pub": spki["alice"]}
    add("key share, salt 32", "alice", True, keyed)
    add("key share, salt 478", "alice", True, keyed, salt=SALT_MAX)
    add("key share, members of a share in another order and white space", "alice", True, keyed | {"shares": unsorted})
    add("key share, one member", "bob", True, keyed | {"shares": json.dumps(shares[:1]), "creator_pub": spki["bob"]})
    add("key share, no member", "bob", True, keyed | {"shares": "[]", "creator_pub": spki["bob"]})
    add("key share, a field more in a share is covered", "bob", True,
        keyed | {"shares": json.dumps([share(ALICE, "alice", n=3)]), "creator_pub": spki["bob"]})
    add("key share, exponent 65539", "exponent_65539", True, keyed | {"creator_pub": spki["exponent_65539"]})
    add("key share, order of the list changed", "alice", False, keyed, change={"shares": json.dumps(shares[::-1])})
    add("key share, one taken away", "alice", False, keyed, change={"shares": json.dumps(shares[:1])})
    add("key share, members exchanged", "alice", False, keyed, change={"shares": swapped_members})
    add("key share, another creator_pub", "alice", False, keyed, change={"creator_pub": spki["bob"]})
    add("key share, by another key", "alice", False, keyed, signer="bob")
    add("key share, bit flipped", "alice", False, keyed, wreck=lambda raw: flip(raw, BLOCK * 4))
    add("key share, creator_pub as text", "alice", False, keyed, over=canonical_bytes(shares) + spki["alice"].encode())
    add("key share, without creator_pub", "alice", False, keyed, over=canonical_bytes(shares))
    add("key share, shares with spaces", "alice", False, keyed, over=text.encode() + unb64u(spki["alice"]))
    return cases


def file_cases(keys, sealed):
    cases = []
    add = case_adder(cases, keys, files_preimage)
    start = {"kind": "start", "file_id": FILE, "from": ALICE, "mode": "dm", "file_name": "notes.txt",
             "sha256": hashlib.sha256(b"notes").hexdigest(), "size": 5, "to": BOB, "ts": TS}
    add("start, salt 32", "alice", True, start)
    add("start, salt 478", "alice", True, start, salt=SALT_MAX)
    add("start, public", "bob", True, start | {"from": BOB, "to": "public", "mode": "public"})
    add("start, empty file", "alice", True, start | {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()})
    add("start, size above 2^53", "alice", True, start | {"size": 2**53 + 1})
    add("start, name with quotes, backslash and control characters", "alice", True, start | {"file_name": 'a"b\\c/d\n\u0001.txt'})
    add("start, non-ASCII name", "alice", True, start | {"file_name": "Übersicht \U0001f4c4.txt"})
    add("start, exponent 65539", "exponent_65539", True, start)
    for key, value in (("ts", TS + 1), ("to", SERVER), ("from", BOB), ("mode", "public"), ("file_name", "notes.sh"), ("size", 6),
                       ("sha256", hashlib.sha256(b"other").hexdigest()), ("file_id", FILE.replace("4", "5"))):
        add(f"start, {key} changed", "alice", False, start, change={key: value})
    add("start, by another key", "alice", False, start, signer="bob")
    add("start, bit flipped", "alice", False, start, wreck=lambda raw: flip(raw, BLOCK * 4))
    bare = {"file_id": FILE, "mode": "dm", "name": "notes.txt", "sha256": start["sha256"], "size": 5}
    add("start, over the payload without names and time", "alice", False, start, over=canonical_bytes(bare))

    chunk = {"kind": "chunk", "ciphertext": sealed["446 bytes, the most one block holds"], "from": BOB, "to": ALICE, "ts": TS,
             "file_id": FILE, "index": 0, "total": 3}
    add("chunk, salt 32", "bob", True, chunk)
    add("chunk, salt 478", "bob", True, chunk, salt=SALT_MAX)
    add("chunk, the last", "bob", True, chunk | {"index": 2, "ciphertext": sealed["one byte"]})
    add("chunk, the only one", "bob", True, chunk | {"total": 1})
    add("chunk, two-digit numbers", "bob", True, chunk | {"index": 11, "total": 4096})
    add("chunk, exponent 65539", "exponent_65539", True, chunk)
    for key, value in (("ts", TS - 1), ("to", SERVER), ("from", SERVER), ("index", 1), ("total", 4),
                       ("file_id", FILE.replace("4", "5")), ("ciphertext", sealed["one byte"])):
        add(f"chunk, {key} changed", "bob", False, chunk, change={key: value})
    add("chunk, by another key", "bob", False, chunk, signer="alice")
    add("chunk, bit flipped", "bob", False, chunk, wreck=lambda raw: flip(raw, BLOCK * 4))
    add("chunk, signed as a direct message", "bob", False, chunk, over=ascii_join(chunk["ciphertext"], BOB, ALICE, TS))
    add("chunk, raw ciphertext", "bob", False, chunk,
        over=unb64u(chunk["ciphertext"]) + ascii_join(BOB, ALICE, TS, FILE, 0, 3))
    return cases


def checker(preimage):
    def check(cases, publics):
        for case in cases:
            assert verifies(publics[case["key"]], unb64u(case["sig_b64u"]), preimage(case)) == case["valid"], case["name"]
    return check


# --- refs.json -------------------------------------------------------------------------------------------------------

def msg_ref(content_sig):
    return b64u(hashlib.sha256(content_sig).digest()[:16])


def directory_preimage(case):
    return canonical_bytes({key: case[key] for key in ("user_id", "pubkey", "enc_pubkey", "version")})


def ref_cases(keys, content):
    cases = []
    seen = [case for case in content if case["valid"]][:4]
    for case in seen:
        signature = unb64u(case["sig_b64u"])
        cases.append({"name": f"msg_ref of content.json, {case['name']}", "kind": "msg_ref", "content_sig": case["sig_b64u"],
                      "msg_ref": msg_ref(signature)})
    for name, raw in (("zeros", bytes(BLOCK)), ("ones", b"\xff" * BLOCK), ("64 bytes", bytes(range(64))),
                      ("both letters of the URL alphabet", b"\xfb\xef\xbe\xff" * 128)):
        cases.append({"name": f"msg_ref of {name}", "kind": "msg_ref", "content_sig": b64u(raw), "msg_ref": msg_ref(raw)})
    spki = {name: spki_of(key.public_key()) for name, key in keys.items()}
    for name, raw in spki.items():
        cases.append({"name": f"fingerprint of {name}", "kind": "fingerprint", "spki_b64u": b64u(raw),
                      "fingerprint_hex": hashlib.sha256(raw).hexdigest()})
    add = case_adder(cases, keys, directory_preimage)
    statement = {"kind": "directory", "user_id": ALICE, "pubkey": b64u(spki["alice"]), "enc_pubkey": b64u(spki["alice"]), "version": 1}
    add("directory, salt 32", "server", True, statement)
    add("directory, salt 478", "server", True, statement, salt=SALT_MAX)
    add("directory, another key for encryption, later version", "server", True,
        statement | {"enc_pubkey": b64u(spki["bob"]), "version": 12})
    for key, value in (("user_id", BOB), ("pubkey", b64u(spki["bob"])), ("enc_pubkey", b64u(spki["bob"])), ("version", 2)):
        add(f"directory, {key} changed", "server", False, statement, change={key: value})
    add("directory, by another server's key", "server", False, statement, signer="bob")
    add("directory, by the user", "server", False, statement, signer="alice")
    add("directory, bit flipped", "server", False, statement, wreck=lambda raw: flip(raw, BLOCK * 4))
    add("directory, version as text", "server", False, statement,
        over=canonical_bytes({key: str(statement[key]) for key in ("user_id", "pubkey", "enc_pubkey", "version")}))
    return cases


def check_refs(cases, publics):
    for case in cases:
        if case["kind"] == "msg_ref":
            assert msg_ref(unb64u(case["content_sig"])) == case["msg_ref"] and len(case["msg_ref"]) == 22, case["name"]
        elif case["kind"] == "fingerprint":
            assert hashlib.sha256(unb64u(case["spki_b64u"])).hexdigest() == case["fingerprint_hex"], case["name"]
    checker(directory_preimage)([case for case in cases if case["kind"] == "directory"], publics)


# --- safety.json -----------------------------------------------------------------------------------------------------

def safety_half(party):
    enc = party.get("enc_b64u", party["spki_b64u"])
    return hashlib.pbkdf2_hmac("sha512", unb64u(party["spki_b64u"]) + unb64u(enc),
                               b"socp-safety-v1\0" + party["user_id"].encode("ascii"), 100_000, 32)


def safety_code(one, other):
    first, second = sorted((one, other), key=lambda party: party["user_id"].encode("ascii"))
    halves = [safety_half(first), safety_half(second)]
    bits = ["".join(f"{byte:08b}" for byte in half) for half in halves]
    return {"word_indices": [int(text[at * 11:at * 11 + 11], 2) for text in bits for at in range(8)],
            "digits": [f"{int.from_bytes(half[at * 5:at * 5 + 5], 'big') % 100_000:05}" for half in halves for at in range(6)],
            "qr": "socp-safety:v1:" + ":".join(f"{b64u(party['user_id'].encode('ascii'))}:{half.hex()}"
                                               for party, half in zip((first, second), halves))}


def safety_cases(keys):
    spki = {name: b64u(spki_of(key.public_key())) for name, key in keys.items()}
    alice, bob = {"user_id": ALICE, "spki_b64u": spki["alice"]}, {"user_id": BOB, "spki_b64u": spki["bob"]}
    pairs = [("two people", alice, bob), ("in the other order", bob, alice),
             ("one key swapped", alice, bob | {"spki_b64u": spki["exponent_65539"]}),
             ("another key for encryption", alice | {"enc_b64u": spki["server"]}, bob),
             ("upper case sorts before lower", {"user_id": "b", "spki_b64u": spki["bob"]},
              {"user_id": "Z!", "spki_b64u": spki["alice"]})]
    return [{"name": name, "one": one, "other": other} | safety_code(one, other) for name, one, other in pairs]


def check_safety(cases, _):
    by_name = {case["name"]: case for case in cases}
    for case in cases:
        assert safety_code(case["other"], case["one"]) == {key: case[key] for key in ("word_indices", "digits", "qr")}, case["name"]
    plain, swapped = by_name["two people"], by_name["one key swapped"]
    assert plain["word_indices"] == by_name["in the other order"]["word_indices"] != swapped["word_indices"]


# --- all of it -------------------------------------------------------------------------------------------------------

# --- history.json ----------------------------------------------------------------------------------------------------

STATEMENT_DOMAIN = b"socp-key-statement-v1\0"


def statement_rest(user, version, sign_key, enc_key, previous, revoked, ts):
    return {"user_id": user, "version": version, "pubkey": sign_key, "enc_pubkey": enc_key, "previous": previous,
            "revoked": revoked, "ts": ts}


def history_of(keys, names, signer=None, domain=STATEMENT_DOMAIN, salt=32, revoked=False):
    """From pair to pair, each (signing key, encryption key); every statement by the signing key before, or by `signer`."""
    text = {name: b64u(spki_of(key.public_key())) for name, key in keys.items()}
    user = made_from(keys[names[0][0]].public_key())
    first = {"pubkey": text[names[0][0]], "enc_pubkey": text[names[0][1]]}
    before = canonical_bytes({"user_id": user, "version": 1, **first})
    statements = []
    steps = list(zip(names, names[1:])) + ([(names[-1], names[-1])] if revoked else [])
    for number, (old, new) in enumerate(steps):
        rest = statement_rest(user, number + 2, text[new[0]], text[new[1]], b64u(hashlib.sha256(before).digest()),
                              old == new, TS + number)
        before = canonical_bytes(rest)
        sig = sign(keys[signer or old[0]], domain + before, salt)
        statements.append({**rest, "sig": b64u(sig)})
    return {"first": first, "statements": statements}


def history_cases(keys):
    cases = []

    def add(name, history, form, valid):
        cases.append({"name": name, "history": history, "form": form, "valid": valid})

    a, b, c = ("alice", "bob"), ("server", "bob"), ("exponent_65539", "alice")
    add("one statement", history_of(keys, [a, b]), True, True)
    add("three statements", history_of(keys, [a, b, c, ("bob", "server")]), True, True)
    add("the encryption key alone", history_of(keys, [a, ("alice", "server")]), True, True)
    add("withdrawn", history_of(keys, [a, b], revoked=True), True, True)
    add("signed with the longest salt", history_of(keys, [a, b], salt=SALT_MAX), True, True)
    add("signed by the new key", history_of(keys, [a, b], signer="server"), True, False)
    add("signed by the encryption key", history_of(keys, [a, b], signer="bob"), True, False)
    add("another domain", history_of(keys, [a, b], domain=b"socp-key-statement-v1"), True, False)
    good = history_of(keys, [a, b, c])

    def changed(name, change, form=False):
        history = json.loads(json.dumps(good))
        change(history)
        add(name, history, form, False)

    changed("no statement", lambda history: history["statements"].clear())
    changed("the first one missing", lambda history: history["statements"].pop(0))
    changed("out of order", lambda history: history["statements"].reverse())
    changed("another first pair", lambda history: history["first"].update(enc_pubkey=history["first"]["pubkey"]))
    changed("of two users", lambda history: history["statements"][1].update(user_id=BOB))
    changed("the same version twice", lambda history: history["statements"][1].update(version=2))
    changed("an unknown field", lambda history: history["statements"][0].update(novel=1))
    changed("another time", lambda history: history["statements"][1].update(ts=TS + 5), form=True)
    changed("back to the first key", lambda history: history["statements"].append(
        history_of(keys, [a, b, c, a])["statements"][2]))
    return cases


def check_history(cases, publics):
    """By the keys alone: who signed what, and that each statement names the one before."""
    by_text = {b64u(spki_of(key)): key for key in publics.values()}
    for case in cases:
        history, good = case["history"], bool(case["history"]["statements"])
        signer, version = history["first"]["pubkey"], 1
        users = {statement["user_id"] for statement in history["statements"]}
        good = good and len(users) == 1
        before = canonical_bytes({"user_id": min(users or {""}), "version": 1, **history["first"]})
        seen, ended = {signer}, False
        for statement in history["statements"]:
            rest = {name: value for name, value in statement.items() if name != "sig"}
            version += 1
            good = good and not ended and statement["version"] == version and len(rest) == 7
            good = good and statement["previous"] == b64u(hashlib.sha256(before).digest())
            good = good and (statement["pubkey"] == signer or statement["pubkey"] not in seen)
            good = good and verifies(by_text[signer], unb64u(statement["sig"]), STATEMENT_DOMAIN + canonical_bytes(rest))
            before, signer, ended = canonical_bytes(rest), statement["pubkey"], statement["revoked"]
            seen.add(signer)
        assert good == case["valid"], case["name"]


# --- deletion.json ---------------------------------------------------------------------------------------------------

DELETE_DOMAIN = b"socp-account-delete-v1\0"


def deletion_cases(keys):
    cases = []
    text = {name: b64u(spki_of(key.public_key())) for name, key in keys.items()}
    user, server = made_from(keys["alice"].public_key()), "srv-1"

    def add(name, valid, signer="alice", domain=DELETE_DOMAIN, salt=32, change=None, **other):
        rest = {"user_id": user, "server_id": server, "ts": TS}
        sig = sign(keys[signer], domain + canonical_bytes({**rest, **other}), salt)
        deletion = {"pubkey": text["alice"], "sig": b64u(sig), "ts": TS, **(change or {})}
        cases.append({"name": name, "user_id": user, "server_id": server, "deletion": deletion, "valid": valid})

    add("by the user", True)
    add("signed with the longest salt", True, salt=SALT_MAX)
    add("signed by another key", False, signer="bob")
    add("naming another key", False, change={"pubkey": text["bob"]})
    add("of another user", False, user_id=BOB)
    add("of another server", False, server_id="srv")
    add("of another time", False, ts=TS + 1)
    add("another domain", False, domain=b"socp-account-delete-v1")
    return cases


def check_deletion(cases, publics):
    by_text = {b64u(spki_of(key)): key for key in publics.values()}
    for case in cases:
        said = case["deletion"]
        rest = {"user_id": case["user_id"], "server_id": case["server_id"], "ts": said["ts"]}
        good = verifies(by_text[said["pubkey"]], unb64u(said["sig"]), DELETE_DOMAIN + canonical_bytes(rest))
        assert good == case["valid"], case["name"]


def write(name, about, cases):
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    document = {"about": about,
                "generator": {"python": ".".join(map(str, sys.version_info[:3])), "cryptography": cryptography.__version__},
                "cases": cases}
    (HERE / name).write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n", "ascii")


def read(name):
    return json.loads((HERE / name).read_text("ascii"))["cases"]


def check_keys(cases):
    publics, privates = {}, {}
    for case in cases:
        try:
            public = read_public_key(case["spki_b64u"])
        except BadKey as refusal:
            assert not case["accept"] and refusal.args == (case["reason"],), (case["name"], refusal.args)
            assert "pkcs8_b64u" not in case
            continue
        assert case["accept"] and "reason" not in case, case["name"]
        private = serialization.load_der_private_key(unb64u(case["pkcs8_b64u"]), None)
        assert spki_of(public) == unb64u(case["spki_b64u"]) == spki_of(private.public_key()), case["name"]
        publics[case["name"]], privates[case["name"]] = public, private
    return publics, privates


def main():
    keys, cases = key_cases()
    write("keys.json", "Public keys to accept and to refuse; test keys with their private halves.", cases)
    write("canonical.json", "JSON texts and their canonical forms, and texts to refuse.", canonical_cases())
    write("transport.json", "Frame signatures (sig) over canonical payloads.", transport_cases(keys))
    write("proof.json", "Proofs of users: PROOF payloads, what they name, and their signatures.", proof_cases(keys))
    write("oaep.json", "Ciphertexts of one or more OAEP blocks.", oaep_cases(keys))
    sealed = {case["name"]: case["ciphertext_b64u"] for case in read("oaep.json")}
    content = content_cases(keys, sealed)
    write("content.json", "Content signatures (content_sig) of direct messages.", content)
    write("channel.json", "Content signatures of public channel messages and key shares.", channel_cases(keys, sealed))
    write("files.json", "Content signatures of file starts and file chunks.", file_cases(keys, sealed))
    write("refs.json", "Message references, key fingerprints and directory statements.", ref_cases(keys, content))
    write("safety.json", "What two people compare to know each other's keys.", safety_cases(keys))

    write("history.json", "Histories of a user's keys.", history_cases(keys))
    write("deletion.json", "Users' words that their accounts are no more.", deletion_cases(keys))

    publics, privates = check_keys(read("keys.json"))
    checks = [("canonical.json", check_canonical, None), ("transport.json", check_transport, publics),
              ("proof.json", check_proof, publics),
              ("oaep.json", check_oaep, privates), ("content.json", check_content, publics),
              ("channel.json", checker(channel_preimage), publics), ("files.json", checker(files_preimage), publics),
              ("refs.json", check_refs, publics), ("safety.json", check_safety, None),
              ("history.json", check_history, publics), ("deletion.json", check_deletion, publics)]
    for name, check, known in checks:
        check(read(name), known)
    total = 0
    for name in ["keys.json"] + [name for name, _, _ in checks]:
        size = (HERE / name).stat().st_size
        total += size
        print(f"{name:16} {len(read(name)):4} cases {size:8} bytes")
    assert total < 600_000, total


if __name__ == "__main__":
    main()
