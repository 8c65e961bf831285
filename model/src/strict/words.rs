//! What serde and the parsers of addresses say, in the words of people who write YAML. Text in, text out.

/// serde's names of types in words for people who write YAML.
pub(super) fn plain_words(expected: &str) -> String {
    let words = match expected {
        "a string" | "string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object with fields",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 on",
        "i64" => "a whole number",
        "f64" => "a number",
        "IPv4 address" => "an IPv4 address",
        "IPv6 address" => "an IPv6 address",
        "IP address" => "an IP address",
        other if other.starts_with("struct ") => "an object with fields",
        other => other,
    };
    words.to_owned()
}

/// What the parsers of addresses say, in full.
pub(super) fn explained(message: &str) -> String {
    let network = ["invalid address: ", "invalid prefix", "invalid cidr format", "network size error"];
    if network.iter().any(|start| message.starts_with(start)) {
        return "must be a network such as 10.0.0.0/16 or fd00::/48".to_owned();
    }
    match message {
        "invalid IP address syntax" => "must be an IP address".to_owned(),
        "invalid IPv4 address syntax" => "must be an IPv4 address".to_owned(),
        "invalid IPv6 address syntax" => "must be an IPv6 address".to_owned(),
        other => other.to_owned(),
    }
}
