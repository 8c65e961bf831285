//! What a route costs: in the codec, and on its way from one peer through a speaker to others. No socket, no clock.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use criterion::{
    BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use tortie_bgp::family::{Family, Prefix};
use tortie_bgp::filter::{Filter, Rule, Verdict};
use tortie_bgp::speaker::{ConnId, Input, Output, Speaker};
use tortie_bgp::wire::nlri::Nlri;
use tortie_bgp::wire::update::{Encoded, Layout, RawUpdate};
use tortie_bgp::wire::validate::judge;
use tortie_bgp::wire::{Capability, Context, Kind, Open, PathAttributes, frame};
use tortie_bgp::{PeerConfig, SpeakerConfig};

const OWN_AS: u32 = 64512;
/// Routes of a feed, and how many of them share attributes.
const FEED: u32 = 100_000;
const SHARING: usize = 10;
/// What one read from a socket brings.
const READ: usize = 65536;
const SENDER: ConnId = ConnId::Accepted(0);

fn prefixes(count: u32) -> Vec<Nlri> {
    let prefix = |n: u32| Prefix::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (n << 6))), 26);
    (0..count).map(|n| prefix(n).expect("26 bits fit").into()).collect()
}

/// UPDATEs of typical attributes; `variant` makes them differ.
fn updates(variant: u32, prefixes: &[Nlri]) -> Vec<u8> {
    let mut attributes = PathAttributes::originated(IpAddr::from([10, 255, 0, 2]));
    let path = [64513, 65000, 65001].map(u32::to_be_bytes).concat();
    attributes.as_path = [&[2, 3], &path[..]].concat().into();
    attributes.add_community(variant);
    let (mut head, mut tail, mut out) = (Vec::new(), Vec::new(), Vec::new());
    attributes.encode_head(&mut head);
    attributes.encode_tail(&mut tail);
    let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
    let layout = Layout::plain(Family::Ipv4);
    assert!(layout.announce(&mut out, encoded, prefixes.iter()), "there is room");
    out
}

/// Prefixes of all UPDATEs in `stream`.
fn decode(mut stream: &[u8]) -> usize {
    let context = Context::plain(false, true, &[Family::Ipv4]);
    let mut count = 0;
    while let Some((frame, rest)) = frame::split(stream).expect("headers") {
        if frame.kind == Kind::Update {
            let raw = RawUpdate::decode(frame.body).expect("an UPDATE");
            count += judge(raw, context).expect("no fault").announced.len();
        }
        stream = rest;
    }
    count
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bgp_update");
    group.sample_size(20).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    for count in [1, 10, 100_u32] {
        let prefixes = prefixes(count);
        let message = updates(1, &prefixes);
        assert_eq!(decode(&message), prefixes.len());
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(BenchmarkId::new("decode", count), |b| b.iter(|| decode(black_box(&message))));
        group.bench_function(BenchmarkId::new("encode", count), |b| {
            b.iter(|| updates(1, black_box(&prefixes)));
        });
    }
    group.finish();
}

fn host(number: u8) -> IpAddr {
    IpAddr::from([10, 255, 0, number])
}

/// A peer in an AS of its own that is told everything.
fn peer(number: u8) -> (SocketAddr, PeerConfig) {
    let mut peer = PeerConfig::new(format!("Peer_{number}"), 64513 + u32::from(number));
    (peer.passive, peer.local_address) = (true, Some(host(1)));
    peer.export = Filter::new(vec![Rule::new("everything", Verdict::Accept)]);
    (SocketAddr::new(host(number), 179), peer)
}

/// A speaker with sessions to a sender and to so many receivers.
fn speaker(receivers: u8, now: Instant) -> Speaker {
    let mut speaker = Speaker::new(false, now);
    let peers: BTreeMap<_, _> = (2..=receivers + 2).map(peer).collect();
    let router_id = Ipv4Addr::new(10, 255, 0, 1);
    let config = SpeakerConfig { router_id, local_as: OWN_AS, listen: Vec::new(), cluster_id: None, peers };
    speaker.handle(Input::Configure(config), now);
    speaker.handle(Input::Originate(BTreeMap::new()), now);
    for number in 2..=receivers + 2 {
        let conn = ConnId::Accepted(u64::from(number) - 2);
        let remote = SocketAddr::new(host(number), 40000);
        speaker.handle(Input::Accepted { conn, local: host(1), remote }, now);
        let asn = 64513 + u32::from(number);
        let capabilities = vec![Capability::Multiprotocol(1, 1), Capability::FourOctetAs(asn)];
        let router_id = Ipv4Addr::new(10, 255, 0, number);
        let mut data = Open { asn, hold_time: 240, router_id, capabilities }.encode();
        data.extend(frame::keepalive());
        speaker.handle(Input::Bytes { conn, data }, now);
    }
    drain(&mut speaker, now);
    speaker
}

/// Takes everything the speaker says; octets sent to receivers.
fn drain(speaker: &mut Speaker, now: Instant) -> usize {
    let mut sent = 0;
    while let Some(output) = speaker.poll_output() {
        if let Output::Send { conn, data } = output {
            speaker.handle(Input::Sent { conn, octets: data.len() }, now);
            sent += if conn == SENDER { 0 } else { data.len() };
        }
    }
    sent
}

/// The sender's routes through the speaker to all receivers.
fn feed(speaker: &mut Speaker, stream: &[u8], now: Instant) -> usize {
    let mut sent = 0;
    for data in stream.chunks(READ) {
        speaker.handle(Input::Bytes { conn: SENDER, data: data.to_vec() }, now);
        sent += drain(speaker, now);
    }
    sent
}

fn feeds(criterion: &mut Criterion) {
    let stream: Vec<u8> = prefixes(FEED)
        .chunks(SHARING)
        .zip(0..)
        .flat_map(|(chunk, variant)| updates(variant, chunk))
        .collect();
    let now = Instant::now();
    let mut group = criterion.benchmark_group("bgp_feed_100k_routes");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.measurement_time(Duration::from_secs(8)).warm_up_time(Duration::from_secs(1));
    for receivers in [1, 50_u8] {
        let expected = stream.len() * usize::from(receivers);
        assert!(feed(&mut speaker(receivers, now), &stream, now) >= expected, "everything was told");
        group.throughput(Throughput::Elements(u64::from(FEED) * u64::from(receivers)));
        group.bench_function(BenchmarkId::new("peers", receivers), |b| {
            b.iter_batched_ref(
                || speaker(receivers, now),
                |speaker| feed(speaker, &stream, now),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, codec, feeds);
criterion_main!(benches);
