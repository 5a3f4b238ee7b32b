//! The bootstrap list, introducers without users, pins that an operator removes (SOCP §8.1, PROTOCOL I.4).

use super::super::*;
use super::world::*;

fn dialled(world: &World, node: &str) -> Vec<String> {
    let dialled = world.node(node).dialled.iter();
    dialled.map(|(address, _)| address.clone()).collect()
}

#[test]
fn entries_are_tried_in_order_each_when_the_one_before_is_done() {
    let mut world = World::one("good");
    world.listens.insert("silent:1".to_owned(), Vec::new());
    let mut config = config("new");
    config.bootstrap = vec![
        entry("dead", None),
        entry("silent", None),
        entry("good", Some(key("another"))),
        entry("good", Some(key("good"))),
    ];
    world.add(config, "new");
    assert_eq!(
        dialled(&world, "new"),
        ["dead:1", "silent:1"],
        "the silent one has ten seconds"
    );
    world.wait(10_000);
    let order = dialled(&world, "new");
    let goods = order.iter().filter(|address| *address == "good:1").count();
    assert!(goods >= 2, "{order:?}");
    assert_eq!(world.links_between("new", "good").len(), 1);
    assert!(
        world
            .node("new")
            .has_noted(|note| matches!(note, Note::WrongKey { .. }))
    );
}

#[test]
fn every_introducer_is_linked_even_if_the_first_lets_us_in() {
    let mut world = World::one("a");
    world.add(config("b"), "b"); // Another network.
    let mut config = config("new");
    config.bootstrap = vec![entry("a", None), entry("b", None)];
    world.add(config, "new");
    assert_eq!(world.links_between("new", "a").len(), 1);
    assert_eq!(world.links_between("new", "b").len(), 1);
    world.wait(60_000);
    assert_eq!(world.links_between("a", "b").len(), 0, "nobody told them of each other");
}

#[test]
fn a_server_that_only_introduces_takes_servers_and_no_users() {
    let mut world = World::empty();
    let mut only = config("only");
    only.takes_users = false;
    world.add(only, "only");
    let wire = world.connect("only");
    world.hello(wire, "u", plain_hello("u"));
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert_eq!(world.closed(wire), Some(1002));
    assert!(world.node("only").users.is_empty());
    for name in ["a", "b"] {
        let mut joiner = config(name);
        joiner.bootstrap = vec![entry("only", Some(key("only")))];
        world.add(joiner, name);
    }
    assert_eq!(world.links_between("a", "b").len(), 1);
    world.user("u", "a");
    assert_eq!(world.list("b"), ["u"]);
}

#[test]
fn a_removed_pin_lets_another_key_in_and_is_gone_after_a_restart() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let server = server_id("x");
    world.handle("a", Input::Unpin { server: server.clone() });
    world.settle();
    assert_eq!(world.closed(x), Some(1008));
    assert!(world.node("a").pins.is_empty());
    let wire = world.connect("a");
    let mut renewed = identity("x");
    renewed.pubkey = key("x renewed");
    let announce = draft("x", "*", world.now.unix, &Payload::ServerAnnounce(renewed));
    world.send(wire, &signed(announce, "x renewed"));
    assert_eq!(world.take_kinds(wire)[0], FrameKind::ServerAnnounce);
    assert_eq!(world.node("a").pins[&server].key, key("x renewed"));
    // Nobody has this id; nothing happens.
    world.handle(
        "a",
        Input::Unpin {
            server: server_id("nobody"),
        },
    );
    world.settle();
    assert_eq!(world.node("a").pins.len(), 1);
}

#[test]
fn a_bootstrap_entry_whose_pin_was_removed_is_dialled_at_once() {
    let mut world = World::one("a");
    let mut config = config("b");
    config.bootstrap = vec![entry("a", None)];
    world.add(config, "b");
    assert_eq!(world.links_between("a", "b").len(), 1);
    world.crash("a");
    // By now b waits up to a minute between two attempts.
    world.wait(300_000);
    let before = dialled(&world, "b").len();
    let server = server_id("a");
    world.handle("b", Input::Unpin { server });
    world.settle();
    assert_eq!(dialled(&world, "b").len(), before + 1);
}

#[test]
fn a_lie_about_a_known_servers_address_does_not_hide_it() {
    let mut world = World::mesh(&["a", "b"]);
    world.listens.insert("liar:1".to_owned(), Vec::new());
    let mut welcome = socp_proto::payload::ServerWelcome {
        tls: false,
        history: None,
        assigned_id: server_id("a"),
        clients: Vec::new(),
        servers: Vec::new(),
        server_id: Some(server_id("liar")),
        pubkey: Some(key("liar")),
        host: None,
        port: None,
        name: None,
        caps: None,
        nonce: None,
    };
    welcome.servers.push(socp_proto::payload::WelcomeServer {
        tls: false,
        server_id: server_id("b"),
        host: "nowhere".to_owned(),
        port: 1,
        pubkey: key("b"),
    });
    world.crash("a");
    world.node_mut("a").add_bootstrap(entry("liar", None));
    world.start(&["a"]);
    let asked = world.listens["liar:1"][0];
    world.peer_says(asked, "liar", "a", &Payload::ServerWelcome(welcome));
    world.crash("b");
    world.wait(120_000);
    world.start(&["b"]);
    world.wait(120_000);
    assert_eq!(world.links_between("a", "b").len(), 1);
}
