//! Answers in the shape of the asked version of CNI. Pure.

use serde_json::{Map, Value, json};
use tortie_model::local_api::{AttachRequest, AttachResponse};

/// A version of the specification whose results we can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(super) const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    pub(super) fn text(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|version| version.text() == text)
    }
}

/// The answer to VERSION.
pub(super) fn versions() -> Value {
    let supported = Version::ALL.map(Version::text);
    json!({"cniVersion": Version::V1_1_0.text(), "supportedVersions": supported})
}

/// The result of an ADD: the host's interface first, the container's second, addresses on the second.
pub(super) fn added(version: Version, request: &AttachRequest, answer: &AttachResponse) -> Value {
    let mut host = json!({"name": answer.host_interface, "mac": answer.host_mac});
    let mut inside = json!({"name": request.interface, "mac": answer.mac, "sandbox": request.netns});
    if version >= Version::V1_1_0 {
        host["mtu"] = answer.mtu.into();
        inside["mtu"] = answer.mtu.into();
    }
    let ips = answer.addresses.iter().map(|address| {
        let mut ip = Map::new();
        if version < Version::V1_0_0 {
            ip.insert("version".into(), if address.is_ipv4() { "4" } else { "6" }.into());
        }
        ip.insert("interface".into(), 1.into());
        ip.insert("address".into(), address.to_string().into());
        Value::Object(ip)
    });
    let families = [(true, "0.0.0.0/0"), (false, "::/0")];
    let present = |ipv4: bool| answer.addresses.iter().any(|address| address.is_ipv4() == ipv4);
    let routes = families.iter().filter(|(ipv4, _)| present(*ipv4)).map(|(_, dst)| json!({"dst": dst}));
    json!({
        "cniVersion": version.text(),
        "interfaces": [host, inside],
        "ips": ips.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "dns": {},
    })
}

/// An error, as every version has it.
pub(super) fn error(version: &str, code: u32, message: &str, details: &str) -> Value {
    let mut error = json!({"cniVersion": version, "code": code, "msg": message});
    if !details.is_empty() {
        error["details"] = details.into();
    }
    error
}
