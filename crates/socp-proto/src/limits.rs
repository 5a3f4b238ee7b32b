//! Every limit of the protocol, with its unit and its source.
//!
//! A limit stands here only if something enforces it; the comment names the section that sets it. "Our choice" marks
//! the ones that SOCP v1.3 leaves open.

/// Longest message in bytes; a longer one closes the link with 1009 (PROTOCOL I.1).
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of arrays and objects, the envelope itself being 1 (our choice).
pub const JSON_DEPTH_MAX: usize = 32;
/// Longest server or user id in bytes (PROTOCOL I.1).
pub const ID_BYTES_MAX: usize = 64;
/// Longest envelope `to` in bytes: a host name of 253, a colon, a port, and room for brackets (our choice).
pub const ADDRESS_BYTES_MAX: usize = 272;
/// Longest host in bytes: the longest DNS name (RFC 1035 §2.3.4, less the framing of its wire form).
pub const HOST_BYTES_MAX: usize = 253;
/// Longest base64url text of a public key in bytes; RSA-4096 needs 734, RSA-8192 must still get its clear refusal (our choice).
pub const KEY_TEXT_BYTES_MAX: usize = 2048;
/// Largest canonical `meta` in bytes (PROTOCOL I.6).
pub const META_BYTES_MAX: usize = 4096;
/// Longest `display_name` in characters (PROTOCOL I.6).
pub const DISPLAY_NAME_CHARS_MAX: usize = 64;
/// Longest `avatar_url` in bytes (PROTOCOL I.6).
pub const AVATAR_URL_BYTES_MAX: usize = 512;
/// Most capabilities one frame may list (our choice).
pub const CAPS_COUNT_MAX: usize = 32;
/// Longest capability name in bytes (our choice).
pub const CAP_BYTES_MAX: usize = 32;
/// Longest text of a direct message in bytes: 147 OAEP blocks, which cost the reader most of a second of RSA (our choice).
pub const DIRECT_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest ciphertext of a direct message in bytes: twice what the longest text needs, since some programs do not fill
/// their blocks; a frame that carries it stays far below [`FRAME_BYTES_MAX`] on every hop (our choice).
pub const DIRECT_CIPHERTEXT_BYTES_MAX: usize = 2 * 512 * DIRECT_TEXT_BYTES_MAX.div_ceil(446);
const _: () = assert!(DIRECT_CIPHERTEXT_BYTES_MAX * 4 / 3 + 64 * 1024 < FRAME_BYTES_MAX);
/// Longest canonical payload and unknown fields of an envelope that a server signs anew and passes on, so that a frame
/// which was just short enough does not become too long by our signature (our choice).
pub const RELAYED_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;
/// Longest signature in bytes, RSA-4096 (RFC 8017 §8.1.1).
pub const SIGNATURE_BYTES_MAX: usize = 512;
/// Longest that a delegation may last (PROTOCOL II.3).
pub const DELEGATION_MAX_MS: u64 = 48 * 3_600_000;
/// Unknown fields that a delegation may have (our choice).
pub const DELEGATION_EXTRA_COUNT_MAX: usize = 8;
/// How long our own delegations last (PROTOCOL II.3: daily).
pub const DELEGATION_LASTS_MS: u64 = 40 * 3_600_000;
/// When less of a delegation is left, the next one is made: so early that a server whose clock is off, or that was away,
/// has always a good one (PROTOCOL II.3: daily).
pub const DELEGATION_LEFT_MIN_MS: u64 = 16 * 3_600_000;
/// How often a server looks whether it is time for that (our choice).
pub const DELEGATION_LOOK_MS: u64 = 60_000;
/// Most changes of a user's keys; together they stay below [`GOSSIP_BYTES_MAX`] and [`FIRST_FRAME_BYTES_MAX`] (PROTOCOL
/// II.13).
pub const KEY_STATEMENTS_COUNT_MAX: usize = 16;
/// Times that a server's key may be changed: its history is part of its first frame (PROTOCOL II.13).
pub const SERVER_KEY_STATEMENTS_COUNT_MAX: usize = 8;
/// Encryption keys that were replaced and that a user keeps for what comes late (our choice).
pub const OLD_ENC_KEYS_COUNT_MAX: usize = 4;
/// Longest text of an identity in bytes: six private keys of some 3.2 KiB and a full history of some 39 KiB (our choice).
pub const IDENTITY_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest first message of a link, before anybody has said who it is (our choice).
pub const FIRST_FRAME_BYTES_MAX: usize = 48 * 1024;
/// Longest name that somebody may log in with, in bytes (our choice).
pub const LOGIN_NAME_BYTES_MAX: usize = 512;
/// Longest identity that a server keeps, in characters of base64url: the longest text of one, and 16 bytes of a tag
/// (PROTOCOL II.9).
pub const KEPT_IDENTITY_BYTES_MAX: usize = (IDENTITY_TEXT_BYTES_MAX + 16).div_ceil(3) * 4;
/// Tries at one account's password that cost no wait (PROTOCOL II.9).
pub const LOGIN_ACCOUNT_TRIES_MAX: u32 = 5;
/// Tries from one address that cost no wait (PROTOCOL II.9).
pub const LOGIN_ADDRESS_TRIES_MAX: u32 = 30;
/// Passwords that one account may set in a row without a wait (PROTOCOL II.9).
pub const REGISTER_TRIES_MAX: u32 = 5;
/// The first such wait, which doubles with each further try (PROTOCOL II.9).
pub const LOGIN_WAIT_MIN_MS: u64 = 1_000;
/// The longest such wait for an account (PROTOCOL II.9).
pub const LOGIN_ACCOUNT_WAIT_MAX_MS: u64 = 15 * 60_000;
/// The longest such wait for an address, which many may share (PROTOCOL II.9).
pub const LOGIN_ADDRESS_WAIT_MAX_MS: u64 = 60_000;
/// Tries are forgotten after this long without another (PROTOCOL II.9).
pub const LOGIN_TRIES_FORGOTTEN_MS: u64 = 60 * 60_000;
const _: () = assert!(LOGIN_TRIES_FORGOTTEN_MS > LOGIN_ACCOUNT_WAIT_MAX_MS);
/// Accounts, and again addresses, whose tries are counted; the one that was quiet for longest goes first (our choice).
pub const LOGIN_TRIES_COUNT_MAX: usize = 1 << 16;
/// Longest file name in a manifest in bytes (our choice).
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest `file_id` in bytes (our choice).
pub const FILE_ID_BYTES_MAX: usize = 64;
/// Longest reason in a `FILE_END` in bytes (our choice).
pub const FILE_DETAIL_BYTES_MAX: usize = 1024;
/// Bytes of the file in one `FILE_CHUNK`: one OAEP block (SOCP §9.4).
pub const FILE_CHUNK_BYTES: usize = 446;

/// A link that has said nothing valid for this long is closed with 1002 (PROTOCOL I.3).
pub const HELLO_WAIT_MAX_MS: u64 = 10_000;
/// Hellos that one link may try, since a refused one may be mended (PROTOCOL I.6).
pub const HELLO_TRIES_MAX: u32 = 3;
/// A server link sends `HEARTBEAT` this often (SOCP §8.4, §11).
pub const HEARTBEAT_INTERVAL_MS: u64 = 15_000;
/// A server link silent for this long is dead (SOCP §11).
pub const LINK_SILENCE_MAX_MS: u64 = 45_000;
const _: () = assert!(LINK_SILENCE_MAX_MS >= 3 * HEARTBEAT_INTERVAL_MS);
/// A user link is pinged this often (PROTOCOL I.11).
pub const PING_INTERVAL_MS: u64 = 30_000;
/// A user link is closed when the ping of this count falls due and none before it was answered (PROTOCOL I.11).
pub const PING_UNANSWERED_COUNT_MAX: u32 = 3;
/// Shortest wait before a lost server is dialled again (SOCP §11).
pub const REDIAL_WAIT_MIN_MS: u64 = 1_000;
/// Longest wait before a lost server is dialled again (SOCP §11).
pub const REDIAL_WAIT_MAX_MS: u64 = 60_000;
/// An attempt to connect is given up after this long (our choice).
pub const DIAL_WAIT_MAX_MS: u64 = 10_000;
/// A server that stops flushes its links for at most this long; it must be gone within 5 s (our choice).
pub const STOP_FLUSH_MAX_MS: u64 = 4_000;

/// How far behind our clock `ts` of a state-changing frame may lie (PROTOCOL I.2).
pub const CLOCK_BEHIND_MAX_MS: u64 = 5 * 60_000;
/// How far ahead of our clock `ts` of a state-changing frame may lie (PROTOCOL I.2).
pub const CLOCK_AHEAD_MAX_MS: u64 = 2 * 60_000;
/// How far `ts` inside a signed hello may lie from our clock, either way (PROTOCOL I.6).
pub const HELLO_AGE_MAX_MS: u64 = 2 * 60_000;
/// How far the time of a user's word that its account is no more may lie from our clock, either way (PROTOCOL II.13): it is
/// the user's, and comes by way of servers.
pub const DELETION_AGE_MAX_MS: u64 = HELLO_AGE_MAX_MS + CLOCK_BEHIND_MAX_MS;
/// How long a frame is remembered as seen (PROTOCOL I.7).
pub const SEEN_TTL_MS: u64 = 10 * 60_000;
/// How many frames are remembered as seen (PROTOCOL I.7).
pub const SEEN_COUNT_MAX: usize = 1 << 20;
const _: () = assert!(SEEN_TTL_MS > CLOCK_BEHIND_MAX_MS + CLOCK_AHEAD_MAX_MS);
/// Content that is older than this is refused, and what was delivered within it is not taken again (PROTOCOL I.7).
pub const CONTENT_AGE_MAX_MS: u64 = 30 * 24 * 3_600_000;
/// How far ahead of our clock the author's `ts` of content may lie (our choice: authors' clocks are not ours).
pub const CONTENT_AHEAD_MAX_MS: u64 = 24 * 3_600_000;
/// How long delivered content is remembered: as long as it could be taken again (PROTOCOL I.7).
pub const CONTENT_REMEMBERED_MS: u64 = CONTENT_AGE_MAX_MS + CONTENT_AHEAD_MAX_MS;
/// How much delivered content is remembered; the oldest goes first (our choice).
pub const DELIVERED_COUNT_MAX: usize = 1 << 20;
/// Users of a lost server are forgotten after this long (PROTOCOL I.5).
pub const STALE_USER_MAX_MS: u64 = 10 * 60_000;

/// Most users on one page of `LIST_RESPONSE` (PROTOCOL I.6).
pub const LIST_PAGE_COUNT_MAX: usize = 2_000;
/// Most changes in one `PRESENCE` (PROTOCOL II.8).
pub const PRESENCE_CHANGES_COUNT_MAX: usize = 500;
/// Shortest time between two batches of changes (PROTOCOL II.8).
pub const PRESENCE_INTERVAL_MS: u64 = 100;
/// The longest that this pause grows with the links to be told (PROTOCOL II.8).
pub const PRESENCE_INTERVAL_MAX_MS: u64 = 3_000;
/// Time between two batches of changes to peers (PROTOCOL II.8).
pub const PRESENCE_PEERS_INTERVAL_MS: u64 = 1_000;
/// Requests for presence that a peer may make at once after a rest (PROTOCOL II.8).
pub const PRESENCE_REQUESTS_BURST_MAX: u32 = 10;
/// The same, in a second over time (PROTOCOL II.8).
pub const PRESENCE_REQUESTS_PER_S_MAX: u32 = 1;
/// How long ago a user may have left for whoever begins to hear us to the letter to be told of it that way too, since it
/// may be about to pass it on (our choice).
pub const LETTER_DEPARTURES_MS: u64 = 10_000;
/// Changes that are kept for whoever missed some; beyond them everyone is told again (our choice).
pub const PRESENCE_LOG_COUNT_MAX: usize = 1 << 15;
/// Most users inside one `SERVER_WELCOME` (PROTOCOL I.4).
pub const WELCOME_CLIENTS_COUNT_MAX: usize = 500;
/// Refused frames after which a link is closed with 1008, counted over [`BAD_FRAMES_WINDOW_MS`] (PROTOCOL I.10).
pub const BAD_FRAMES_COUNT_MAX: usize = 10;
/// The window in which refused frames are counted (PROTOCOL I.10).
pub const BAD_FRAMES_WINDOW_MS: u64 = 60_000;
/// Bytes that may wait for one link before it is closed with 1013 (PROTOCOL I.11).
pub const OUTBOUND_BYTES_MAX: usize = 1024 * 1024;
/// Frames that may wait for one link before it is closed with 1013 (PROTOCOL I.11).
pub const OUTBOUND_FRAMES_COUNT_MAX: usize = 1_024;

/// Frames a user link may send in a second, over time (PROTOCOL I.11).
pub const USER_FRAMES_PER_S_MAX: u32 = 200;
/// Frames a user link may send at once after a rest (PROTOCOL I.11).
pub const USER_FRAMES_BURST_MAX: u32 = 600;
/// Frames a server link may send in a second (PROTOCOL I.11).
pub const PEER_FRAMES_PER_S_MAX: u32 = 20_000;
/// Signatures that one link may make us verify in a second (PROTOCOL I.11).
pub const VERIFICATIONS_PER_S_MAX: u32 = 1_000;
/// How many signatures of a delegated key count as one of those: a link carries 10,000 frames a second by it, some twice
/// what servers have been measured to say to each other (PROTOCOL I.11).
pub const DELEGATED_PER_VERIFICATION: u32 = 10;
/// Connections from one address that have not finished a hello (PROTOCOL I.11).
pub const PENDING_PER_ADDRESS_COUNT_MAX: usize = 200;
/// Connections in all that have not finished a hello (PROTOCOL I.11).
pub const PENDING_COUNT_MAX: usize = 4_000;
/// Users accepted from one peer (PROTOCOL I.11).
pub const PEER_USERS_COUNT_MAX: usize = 5_000;
/// Key histories of the users of one peer, as text: room for 8 KiB each, three changes of both keys (PROTOCOL I.5).
pub const PEER_HISTORY_BYTES_MAX: usize = PEER_USERS_COUNT_MAX * 8 * 1024;
/// Presence changes accepted from one peer in a second (PROTOCOL I.11).
pub const PEER_CHANGES_PER_S_MAX: u32 = 500;
/// Longest `detail` of an `ERROR` of ours in characters, since it may repeat what somebody sent (our choice).
pub const ERROR_DETAIL_CHARS_MAX: usize = 256;
/// Longest `code` of an `ERROR` of ours in characters, where it is another server's (our choice).
pub const ERROR_CODE_CHARS_MAX: usize = 64;
/// Bytes of servers, and again of users, in one `SERVER_WELCOME`, so that it fits into a message (our choice).
pub const WELCOME_LIST_BYTES_MAX: usize = FRAME_BYTES_MAX * 2 / 5;
/// Bytes of servers in a `SERVER_WELCOME` for a newcomer that has proved nothing yet (PROTOCOL II.2).
pub const WELCOME_UNPROVEN_BYTES_MAX: usize = 64 * 1024;
/// Links with one key that wait for its proof; the oldest of more is closed (PROTOCOL II.2).
pub const PROVERS_PER_KEY_COUNT_MAX: usize = 16;
/// Users whose home is one server; each record takes some kilobytes of memory and disk (our choice).
pub const LOCAL_USERS_COUNT_MAX: usize = 100_000;
/// Longest gossip that is taken, envelope fields beyond the known ones included: keys, the largest profile, and room (our
/// choice). It is kept, and shown to others.
pub const GOSSIP_BYTES_MAX: usize = 48 * 1024;
/// A peer that changes its mind about its links is told all it may have missed this often (our choice).
pub const RETELL_INTERVAL_MS: u64 = 30_000;
/// How much higher than ours the channel version of a peer may be, so that nobody uses it up (our choice).
pub const CHANNEL_VERSION_STEP_MAX: u64 = 100_000;
/// Longest ciphertext of one `FILE_CHUNK` in bytes: to the letter one OAEP block of 512, and room for programs that send
/// more (our choice).
pub const CHUNK_CIPHERTEXT_BYTES_MAX: usize = 4 * 512;
/// Highest version of the group `public` that is believed: what every program can hold exactly (RFC 8259 §6).
pub const CHANNEL_VERSION_MAX: u64 = (1 << 53) - 1;
/// Changes of the public channel are told together, this long after the first (our choice).
pub const CHANNEL_TELL_WAIT_MS: u64 = 1_000;
/// How long a new peer has to link itself to others before it is told what those say (our choice).
pub const FORWARD_SETTLE_MS: u64 = 3_000;
/// How long a new link has to name everyone at its end; whom others said to be there, and it did not, is not there (our
/// choice: five thousand signatures).
pub const CONFIRM_WAIT_MS: u64 = 30_000;
/// Gossip that is offered together, in one `HEARTBEAT` (our choice).
pub const GOSSIP_REFS_COUNT_MAX: usize = 1_024;
/// Gossip that could be passed on is offered together, this long after the first (our choice).
pub const OFFER_WAIT_MS: u64 = 50;
/// How long an offer, or the wait for what was asked for, lasts (our choice).
pub const OFFER_TTL_MS: u64 = 30_000;
/// How many offers to one peer, and questions, are kept; more changes are passed on unasked (our choice).
pub const OFFERS_PER_PEER_COUNT_MAX: usize = 4_096;
/// What peers say of their links is thought through together, this long after the first (our choice).
pub const LINKS_DECIDE_WAIT_MS: u64 = 200;
/// How often what we know by a peer is compared with what it says it reaches, after a rest and over time (our choice).
pub const LINKS_CHECKS_BURST_MAX: u32 = 10;
/// See [`LINKS_CHECKS_BURST_MAX`] (our choice).
pub const LINKS_CHECKS_PER_S_MAX: u32 = 1;
/// How long a lost link still counts as one, since most come back at once (our choice).
pub const UNLINKED_TELL_WAIT_MS: u64 = 5_000;
/// How many users who left are remembered, so that old gossip does not bring them back (our choice).
pub const DEPARTED_COUNT_MAX: usize = 1 << 16;
/// Users of other servers who have left and whose keys are remembered, in all (our choice).
pub const FORMER_KEYS_COUNT_MAX: usize = 1 << 14;
/// The same, of one server (our choice).
pub const FORMER_KEYS_PER_SERVER_COUNT_MAX: usize = 1 << 10;
/// Their key histories, of one server, as text (our choice).
pub const FORMER_HISTORY_BYTES_PER_SERVER_MAX: usize = FORMER_KEYS_PER_SERVER_COUNT_MAX * 8 * 1024;
/// Servers that may claim one user beside the one in use, since a user moves with a removal still on its way (our choice).
pub const USER_CLAIMS_COUNT_MAX: usize = 4;
/// Users of other servers in all; more are refused (our choice).
pub const REMOTE_USERS_COUNT_MAX: usize = 250_000;
/// How long an `ERROR` about something that was passed on still finds its way back to the author (our choice).
pub const PASSED_TTL_MS: u64 = 60_000;
/// How many messages that were passed on are remembered for that (our choice).
pub const PASSED_COUNT_MAX: usize = 1 << 16;
/// Servers that are pinned and known; a newcomer beyond that is refused (our choice).
pub const SERVERS_COUNT_MAX: usize = 10_000;
/// Longest contact card (our choice: a host name, an id and a name with every character escaped fit).
pub const CARD_BYTES_MAX: usize = 2_048;
/// Longest name in a contact card (our choice, as `display_name`).
pub const CARD_NAME_CHARS_MAX: usize = DISPLAY_NAME_CHARS_MAX;
/// Keys that somebody who has not said hello may ask for on one link (our choice: each answer costs a signature).
pub const STRANGER_ASKS_COUNT_MAX: u32 = 32;
/// Users whom one session can have shown to know (our choice).
pub const CONTACTS_PER_LINK_COUNT_MAX: usize = 4_096;
/// Users whose keys a client asks for so that they are shown to it; fewer than what a server answers at once (our choice).
pub const CONTACTS_ASKED_COUNT_MAX: usize = 1_000;
/// Longest reference to a message, or name of a frame, in an `ACK`, in bytes (our choice).
pub const MSG_REF_BYTES_MAX: usize = 32;
/// Most messages that one `ACK` names beside the first (PROTOCOL II.6).
pub const ACK_REFS_COUNT_MAX: usize = 256;
/// Messages that wait in one user's mailbox (PROTOCOL II.6).
pub const MAILBOX_COUNT_MAX: usize = 10_000;
/// Bytes that wait in one user's mailbox (PROTOCOL II.6).
pub const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages of one author in one user's mailbox (PROTOCOL II.6).
pub const MAILBOX_AUTHOR_COUNT_MAX: usize = MAILBOX_COUNT_MAX / 4;
/// Bytes of one author in one user's mailbox (PROTOCOL II.6).
pub const MAILBOX_AUTHOR_BYTES_MAX: usize = MAILBOX_BYTES_MAX / 4;
/// Messages in one user's mailbox that came over one other server, whose authors it may have made up (PROTOCOL II.6).
pub const MAILBOX_SERVER_COUNT_MAX: usize = MAILBOX_COUNT_MAX / 2;
/// Bytes of the same (PROTOCOL II.6).
pub const MAILBOX_SERVER_BYTES_MAX: usize = MAILBOX_BYTES_MAX / 2;
/// Bytes in all mailboxes of a server (PROTOCOL II.6).
pub const MAILBOXES_BYTES_MAX: usize = 8 * 1024 * 1024 * 1024;
/// Messages in all mailboxes of a server: each costs some tens of bytes of memory (PROTOCOL II.6).
pub const MAILBOXES_COUNT_MAX: usize = 2_000_000;
/// Messages in all mailboxes of a server that came over one other server (PROTOCOL II.6).
pub const MAILBOXES_SERVER_COUNT_MAX: usize = MAILBOXES_COUNT_MAX / 2;
/// Bytes of the same (PROTOCOL II.6).
pub const MAILBOXES_SERVER_BYTES_MAX: usize = MAILBOXES_BYTES_MAX / 2;
/// Devices that read one user's mailbox; the one that was silent for longest makes room (PROTOCOL II.6).
pub const MAILBOX_DEVICES_COUNT_MAX: usize = 16;
/// What nobody has read for this long is dropped, and a device that was silent for this long counts no more (PROTOCOL
/// II.6).
pub const MAILBOX_KEPT_MS: u64 = CONTENT_AGE_MAX_MS;
/// Messages that are sent to a device, or to a server, before it has acknowledged any (PROTOCOL II.6).
pub const UNACKNOWLEDGED_COUNT_MAX: usize = 256;
/// Bytes of the same; well below [`OUTBOUND_BYTES_MAX`], so that they alone never close a link (PROTOCOL II.6).
pub const UNACKNOWLEDGED_BYTES_MAX: usize = 512 * 1024;
/// Most messages on a page that is read from the disk (our choice).
pub const MAILBOX_PAGE_COUNT_MAX: usize = 128;
/// Bytes on such a page, but for its last message (our choice).
pub const MAILBOX_PAGE_BYTES_MAX: usize = UNACKNOWLEDGED_BYTES_MAX / 2;
/// A program that has acknowledged nothing for this long, though it may not be sent more, is told so (PROTOCOL II.6).
pub const UNACKNOWLEDGED_WAIT_MAX_MS: u64 = 60_000;
/// Messages that wait for one server (PROTOCOL II.6).
pub const OUTBOX_COUNT_MAX: usize = 250_000;
/// Bytes that wait for one server (PROTOCOL II.6).
pub const OUTBOX_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// Messages of one author that wait for one server (PROTOCOL II.6).
pub const OUTBOX_AUTHOR_COUNT_MAX: usize = OUTBOX_COUNT_MAX / 2;
/// Messages that wait for servers, in all (PROTOCOL II.6).
pub const OUTBOXES_COUNT_MAX: usize = 1_000_000;
/// What a server could not write to its disk is sent to it again after this long (PROTOCOL II.6).
pub const NOT_STORED_WAIT_MS: u64 = 5_000;
/// Messages that one receipt names (PROTOCOL II.6).
pub const SPEECH_REFS_COUNT_MAX: usize = 64;
/// Texts that are asked for again at once (PROTOCOL II.6).
pub const SPEECH_AGAIN_COUNT_MAX: u64 = 64;
/// Highest number of a text: what every program's JSON can hold (PROTOCOL II.6).
pub const SPEECH_NUMBER_MAX: u64 = (1 << 53) - 1;
