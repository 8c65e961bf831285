//! `version`: of this client and of the cluster.

use tortie_model::resource::ClusterInformationSpec;

use super::{CLIENT_VERSION, chain};
use crate::cli::{Global, VersionArgs};
use crate::context;
use crate::outcome::Outcome;

pub(super) async fn run(global: &Global, args: &VersionArgs) -> anyhow::Result<Outcome> {
    let commit = option_env!("TORTIE_GIT_COMMIT").unwrap_or("unknown");
    let client_part = format!("Client Version:    {CLIENT_VERSION}\nGit commit:        {commit}\n");
    if args.client {
        return Ok(Outcome::ok(client_part));
    }
    let failed = |reason: String| Outcome {
        stdout: client_part.clone(),
        stderr: format!("unable to retrieve Cluster Version or Type: {reason}"),
        failed: true,
    };
    let client = match context::client_of_any_version(global.config.as_deref()).await {
        Ok(client) => client,
        Err(error) => return Ok(failed(format!("{error:#}"))),
    };
    Ok(match client.find::<ClusterInformationSpec>(None, "default").await {
        Ok(Some(info)) => {
            let known = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
            let (version, kind) = (known(info.spec.calico_version), known(info.spec.cluster_type));
            Outcome::ok(format!("{client_part}Cluster Version:   {version}\nCluster Type:      {kind}\n"))
        }
        Ok(None) => {
            failed("resource does not exist: ClusterInformation(default) with error: <nil>".to_owned())
        }
        Err(error) => failed(chain(&error)),
    })
}
