//! Passwords from files.

use std::sync::Arc;

use super::*;
use crate::calc::Secrets;

fn secrets(files: &[(&str, Result<&str, &str>)]) -> Arc<Secrets> {
    let file = |(path, text): &(&str, Result<&str, &str>)| {
        let (name, key) = path.split_once('/').unwrap();
        ((name.to_owned(), key.to_owned()), text.map(str::to_owned).map_err(str::to_owned))
    };
    Arc::new(Secrets { directory: "/etc/tortie/secrets".into(), files: files.iter().map(file).collect() })
}

/// Two nodes with a mesh and a router, both with a password.
fn world() -> World {
    let reference = |key: &str| json!({"secretKeyRef": {"name": "bgp", "key": key}});
    let mesh = json!({"nodeMeshPassword": reference("mesh")});
    let tor = json!({"peerIP": "10.0.0.254", "asNumber": 65100, "password": reference("tor")});
    World::nodes(2).with(Kind::BgpConfiguration, "default", mesh).with(Kind::BgpPeer, "tor", tor)
}

#[test]
fn passwords_come_from_files_and_follow_them() {
    let mut calc = calc_of(&world());
    let both = |tor| secrets(&[("bgp/mesh", Ok("m")), ("bgp/tor", tor)]);
    let mut flush = |secrets: Arc<Secrets>| {
        calc.set_secrets(secrets);
        let config = calc.flush()?.bgp.config.clone()?;
        Some(config.peers.values().map(|peer| (peer.name.clone(), peer.password.clone().unwrap())).collect())
    };
    let expect = |tor: &str| -> Option<BTreeMap<String, String>> {
        let pairs = [("Mesh_10_0_0_2", "m"), ("Global_10_0_0_254", tor)];
        Some(pairs.map(|(name, text)| (name.to_owned(), text.to_owned())).into())
    };
    assert_eq!(flush(both(Ok("one"))), expect("one"));
    assert_eq!(flush(both(Ok("one"))), None, "nothing new");
    assert_eq!(flush(both(Ok("two"))), expect("two"));
}

#[test]
fn a_session_without_its_password_stays_down_and_the_file_is_named() {
    let long = "x".repeat(81);
    for (file, problem) in [
        (None, "is missing"),
        (Some(Err("Permission denied")), "cannot be read: Permission denied"),
        (Some(Ok("")), "is empty"),
        (Some(Ok(long.as_str())), "has 81 octets; a TCP-MD5 key has at most 80"),
    ] {
        let mut calc = calc_of(&world());
        let mut files = vec![("bgp/mesh", Ok("m"))];
        files.extend(file.map(|text| ("bgp/tor", text)));
        calc.set_secrets(secrets(&files));
        let output = calc.flush().unwrap();
        let config = output.bgp.config.as_ref().unwrap();
        assert_eq!(config.peers.values().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["Mesh_10_0_0_2"]);
        let expected = format!(
            "password: the secret's file /etc/tortie/secrets/bgp/tor {problem}; the session stays down"
        );
        assert_eq!(output.problems.of("BGPPeer tor"), Some(expected));
    }
    // The reverse of another node's peering has the same password.
    let spec = json!({"node": "n2", "peerIP": "10.0.0.1", "asNumber": 64512,
                      "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}});
    let mut calc = calc_of(&no_mesh(World::nodes(2)).with(Kind::BgpPeer, "p", spec));
    calc.set_secrets(secrets(&[("bgp/tor", Ok("t"))]));
    let config = calc.flush().unwrap().bgp.config.clone().unwrap();
    let peer = config.peers.values().next().unwrap();
    assert_eq!((peer.name.as_str(), peer.password.as_deref()), ("Node_10_0_0_2", Some("t")));
}
