//! The command line as typed: clap's tree, nothing decided. Options and their letters are calicoctl's
//! (calico-datamodel 6.1).

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// View and change the resources of a Calico-compatible network.
#[derive(Debug, Parser)]
#[command(name = "tortiectl", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file: where the datastore is. Without one the environment says it (ETCD_ENDPOINTS …)
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to log to standard error
    #[arg(short, long, global = true, value_enum, default_value = "panic", hide_possible_values = true)]
    pub(crate) log_level: LogLevel,
    /// Work with a cluster of another major version
    #[arg(long, global = true)]
    pub(crate) allow_version_mismatch: bool,
    /// Context of a kubeconfig; accepted for compatibility and not used
    #[arg(long, global = true, value_name = "NAME", hide = true)]
    pub(crate) context: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Panic,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create resources; one that exists already is an error
    #[command(after_help = "Example:\n  tortiectl create -f pool.yaml\n  cat *.yaml | tortiectl create -f -")]
    Create(CreateArgs),
    /// Create resources, or replace those that exist
    #[command(after_help = "Example:\n  tortiectl apply -f policies/ -R")]
    Apply(FileArgs),
    /// Replace resources; one that does not exist is an error
    #[command(after_help = "Example:\n  tortiectl replace -f policy.yaml -n production")]
    Replace(FileArgs),
    /// Delete resources by name or by file
    #[command(
        after_help = "Example:\n  tortiectl delete ipPool 192.168.0.0/16\n  tortiectl delete networkpolicy a b -n web\n  \
                      tortiectl delete -f pool.yaml --skip-not-exists\n\nA pool may be named by its CIDR."
    )]
    Delete(DeleteArgs),
    /// Show resources
    #[command(after_help = "Example:\n  tortiectl get ipPool -o wide\n  tortiectl get node n1 -o yaml\n  \
                      tortiectl get networkpolicies -A -o custom-columns=NAME,ORDER")]
    Get(GetArgs),
    /// Change fields of one resource
    #[command(
        after_help = "Example:\n  tortiectl patch ippool pool-a -p '{\"spec\":{\"natOutgoing\":true}}'\n  \
                      tortiectl patch gnp p1 -t json -p '[{\"op\":\"remove\",\"path\":\"/spec/egress\"}]'"
    )]
    Patch(PatchArgs),
    /// Set or remove a label of one resource
    #[command(
        after_help = "Example:\n  tortiectl label node n1 rack=a --overwrite\n  tortiectl label node n1 rack --remove"
    )]
    Label(LabelArgs),
    /// Check files without a datastore
    #[command(after_help = "Example:\n  tortiectl validate -f manifests/ -R")]
    Validate(FileArgs),
    /// Print documents of the old v1 form in v3 form
    #[command(after_help = "Example:\n  tortiectl convert -f v1-pool.yaml -o yaml")]
    Convert(ConvertArgs),
    /// Look at address management
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// Look at the node this runs on
    #[command(subcommand)]
    Node(NodeCommand),
    /// Look at the BGP speaker of the node this runs on
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Run or look after a datastore
    #[command(subcommand)]
    Datastore(DatastoreCommand),
    /// Print versions of this client and of the cluster
    #[command(after_help = "Example:\n  tortiectl version --client")]
    Version(VersionArgs),
}

/// Files to read resources from.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// File, directory (*.yaml, *.yml, *.json) or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: String,
    /// Go into subdirectories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Files without resources are no error
    #[arg(long)]
    pub(crate) skip_empty: bool,
    /// Namespace of namespaced resources that do not say theirs [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Leave resources that exist already as they are
    #[arg(long)]
    pub(crate) skip_exists: bool,
}

/// Resources by kind and name, or by file.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Kind, in any case, singular or plural, such as ipPool
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub(crate) kind: Option<String>,
    /// Names
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// File, directory (*.yaml, *.yml, *.json) or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Option<String>,
    /// Go into subdirectories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Files without resources are no error
    #[arg(long)]
    pub(crate) skip_empty: bool,
    /// Namespace [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Resources that do not exist are no error
    #[arg(short, long)]
    pub(crate) skip_not_exists: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// ps, wide, yaml, json, name, custom-columns=NAME,…
    #[arg(short, long, default_value = "ps")]
    pub(crate) output: String,
    /// All namespaces
    #[arg(short = 'A', short_alias = 'a', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Without the fields that belong to this cluster only
    #[arg(long)]
    pub(crate) export: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PatchArgs {
    /// Kind
    pub(crate) kind: String,
    /// Name
    pub(crate) name: String,
    /// The patch: a JSON or YAML object of the fields to change, where null removes a field; or, with --type json, a
    /// list of operations
    #[arg(short, long)]
    pub(crate) patch: String,
    /// Form of the patch: json is RFC 6902; strategic and merge (RFC 7396) mean the same here: lists are replaced as a
    /// whole
    #[arg(short = 't', long = "type", value_enum, default_value = "strategic")]
    pub(crate) patch_type: PatchType,
    /// Namespace [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchType {
    Strategic,
    Merge,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// Kind
    pub(crate) kind: String,
    /// Name
    pub(crate) name: String,
    /// key=value, or key with --remove
    pub(crate) label: String,
    /// Change a label that is there already
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Remove the label
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) remove: bool,
    /// Namespace [default: default]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// File, directory or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: String,
    /// yaml or json
    #[arg(short, long, default_value = "yaml")]
    pub(crate) output: String,
    /// Convert also what would be refused when applied; the documents must still be well formed
    #[arg(long)]
    pub(crate) ignore_validation: bool,
    /// Go into subdirectories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Only the client's version; no datastore needed
    #[arg(long)]
    pub(crate) client: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Show how full the pools are, or who has an address
    #[command(
        after_help = "Example:\n  tortiectl ipam show --show-blocks\n  tortiectl ipam show --ip=10.65.0.3"
    )]
    Show(IpamShowArgs),
    /// Release an address that nothing uses any more, whoever it was given to, or all that reports call leaked
    #[command(
        after_help = "Example:\n  tortiectl ipam release --ip=10.65.0.3\n  tortiectl ipam release --from-report=a.json \
                      --from-report=b.json\n\nThe workload that has the address, if there is one, keeps using it: look \
                      at `ipam show --ip` first. Out of reports, only what all of them call leaked is released, and only \
                      while it is allocated as they say."
    )]
    Release(IpamReleaseArgs),
    /// Change settings of address management
    #[command(after_help = "Example:\n  tortiectl ipam configure --strictaffinity=true")]
    Configure(IpamConfigureArgs),
    /// Look for addresses that leaked and for records that contradict each other
    #[command(
        after_help = "Example:\n  tortiectl ipam check --show-problem-ips\n  tortiectl ipam check -o report.json\n\n                      Addresses in use are those of workload endpoints and of nodes' tunnels."
    )]
    Check(IpamCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IpamCheckArgs {
    /// List every address, with who uses it
    #[arg(long)]
    pub(crate) show_all_ips: bool,
    /// List the addresses that are a problem
    #[arg(long)]
    pub(crate) show_problem_ips: bool,
    /// Write a report for `ipam release --from-report`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IpamReleaseArgs {
    /// The address
    #[arg(long, required_unless_present = "from_report", conflicts_with = "from_report")]
    pub(crate) ip: Option<String>,
    /// A report of `ipam check`; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) from_report: Vec<PathBuf>,
    /// Release although the datastore is not locked, or a report is of another version
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IpamConfigureArgs {
    /// Whether nodes take addresses from their own blocks only
    #[arg(long, value_name = "true|false")]
    pub(crate) strictaffinity: Option<bool>,
    /// How many blocks a node may hold; 0 for the usual 20
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_blocks_per_host: Option<u32>,
    /// Whether machines of KubeVirt keep their addresses
    #[arg(long, value_name = "Enabled|Disabled")]
    pub(crate) kubevirt_ip_persistence: Option<String>,
    /// How long a released address is given to nobody
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ip_cooldown_seconds: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct IpamShowArgs {
    /// Who has this address
    #[arg(long)]
    pub(crate) ip: Option<String>,
    /// Blocks too
    #[arg(long)]
    pub(crate) show_blocks: bool,
    /// Addresses that nodes borrowed out of other nodes' blocks
    #[arg(long)]
    pub(crate) show_borrowed: bool,
    /// The settings in force
    #[arg(long)]
    pub(crate) show_configuration: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Show the agent's BGP sessions
    #[command(after_help = "Example:\n  sudo tortiectl node status")]
    Status(NodeStatusArgs),
    /// Check what a node needs of this machine, and whether firewalls of others are in its way
    #[command(
        after_help = "Example:\n  sudo tortiectl node checksystem\n  sudo tortiectl node checksystem -o json\n\nNothing is \
                      changed. Exit code 1 when something that every node needs is missing or stopped."
    )]
    Checksystem(NodeChecksystemArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// Show routes, or why a route is what it is
    #[command(
        visible_alias = "route",
        after_help = "Example:\n  sudo tortiectl bgp routes\n  sudo tortiectl bgp routes --peer 10.0.0.2 --in\n  \
                      sudo tortiectl bgp routes --peer Mesh_10_0_0_2 --out -o json\n  \
                      sudo tortiectl bgp routes --explain 10.64.1.0/26\n\nWithout --in, --out or --explain: what this node \
                      originates, and every path that import accepted."
    )]
    Routes(BgpRoutesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BgpRoutesArgs {
    /// Name or address of a peer: only paths it announced
    #[arg(long, value_name = "PEER")]
    pub(crate) peer: Option<String>,
    /// What the peer announced, before import, with what became of it
    #[arg(long = "in", requires = "peer", group = "view")]
    pub(crate) received: bool,
    /// What the peer is told
    #[arg(long = "out", requires = "peer", group = "view")]
    pub(crate) sent: bool,
    /// Only what is in use: originated, best, and equal to the best
    #[arg(long, group = "view")]
    pub(crate) best: bool,
    /// Why this prefix, or the longest one that holds it, is what it is: its paths, the kernel, what peers are told; with
    /// --peer, what that peer is told
    #[arg(long, value_name = "PREFIX", group = "view")]
    pub(crate) explain: Option<String>,
    /// ps, wide (with reasons), yaml, json
    #[arg(short, long, default_value = "ps")]
    pub(crate) output: String,
    /// Socket of the agent
    #[arg(long, env = "TORTIE_SOCKET", default_value = tortie_model::local_api::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct NodeStatusArgs {
    /// ps, or wide: with the prefixes accepted from each peer and announced to it
    #[arg(short, long, default_value = "ps", value_parser = ["ps", "wide"])]
    pub(crate) output: String,
    /// Socket of the agent
    #[arg(long, env = "TORTIE_SOCKET", default_value = tortie_model::local_api::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct NodeChecksystemArgs {
    /// Configuration of the kernel, plain or gzip, instead of /proc/config.gz or /boot/config-VERSION
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) kernel_config: Option<PathBuf>,
    /// ps, yaml, json
    #[arg(short, long, default_value = "ps")]
    pub(crate) output: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatastoreCommand {
    /// Serve etcd's API from a directory, for one machine or a lab
    #[command(after_help = "Example:\n  tortiectl datastore serve --data-dir /var/lib/tortie/datastore\n  \
                      ETCD_ENDPOINTS=http://127.0.0.1:2379 tortiectl get nodes")]
    Serve(ServeArgs),
    /// Say of each endpoint whether it answers and how it is; one that is not well is an error
    #[command(after_help = "Example:\n  tortiectl datastore status")]
    Status,
    /// Print everything stored, one JSON object a line
    #[command(after_help = "Example:\n  tortiectl datastore export > backup.jsonl\n  \
                      tortiectl datastore export | ETCD_ENDPOINTS=https://10.0.0.1:2379 tortiectl datastore import -f -\n  \
                      etcdctl snapshot save backup.db && tortiectl datastore export --snapshot backup.db")]
    Export(ExportArgs),
    /// Store what `export` printed; a datastore that is not empty is an error
    #[command(
        after_help = "Example:\n  ETCD_ENDPOINTS=https://10.0.0.1:2379 tortiectl datastore import -f backup.jsonl"
    )]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Of a snapshot that `etcdctl snapshot save` took of an embedded datastore, instead of the datastore
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Of the directory of an embedded datastore that does not run
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// File, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: String,
    /// Also into a datastore that is not empty: keys of the file are replaced, others stay
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the data is kept; made when missing
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address and port
    #[arg(long, default_value = "127.0.0.1:2379", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// Allow an address other machines reach without TLS: whoever reaches it may change the network
    #[arg(long, conflicts_with = "cert_file")]
    pub(crate) insecure: bool,
    /// Serve TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Let in only clients with a certificate of these authorities (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_ca_file: Option<PathBuf>,
    /// Let in only clients with a certificate; implied by --trusted-ca-file, as in etcd
    #[arg(long)]
    pub(crate) client_cert_auth: bool,
}

/// The tree under the name it was invoked by.
pub(crate) fn command(invoked_as: Option<&OsStr>) -> clap::Command {
    let name = invoked_as.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    match name {
        Some("calicoctl") => Cli::command().name("calicoctl").bin_name("calicoctl"),
        _ => Cli::command(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_consistent_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example:\n  "), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn the_version_is_told_as_by_every_program() {
        for flag in ["--version", "-V"] {
            let said = command(None).try_get_matches_from(["tortiectl", flag]).unwrap_err();
            assert_eq!(said.to_string(), concat!("tortiectl ", env!("CARGO_PKG_VERSION"), "\n"));
            assert!(!said.use_stderr(), "it succeeds");
        }
    }
}
