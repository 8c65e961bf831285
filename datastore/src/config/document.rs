//! The configuration file: strict YAML to [`Settings`]. Pure.

use serde::Deserialize;
use serde_yaml::Value;

use super::settings::{Names, Settings};

/// The outer document; both forms share it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    /// Ignored, as by upstream.
    #[serde(default, rename = "metadata")]
    _metadata: Option<Value>,
    #[serde(default)]
    spec: Option<Spec>,
}

/// The fields of both forms. Those of the Kubernetes datastore are accepted and unused: which datastore is meant
/// is decided by the type.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spec {
    datastore_type: Option<String>,
    etcd_endpoints: Option<String>,
    etcd_discovery_srv: Option<String>,
    etcd_username: Option<String>,
    etcd_password: Option<String>,
    etcd_key_file: Option<String>,
    etcd_cert_file: Option<String>,
    #[serde(rename = "etcdCACertFile")]
    etcd_ca_cert_file: Option<String>,
    etcd_key: Option<String>,
    etcd_cert: Option<String>,
    #[serde(rename = "etcdCACert")]
    etcd_ca_cert: Option<String>,
    /// v1 only: `host:port`.
    etcd_authority: Option<String>,
    /// v1 only: `http` or `https`.
    etcd_scheme: Option<String>,
    kubeconfig: Option<Value>,
    #[serde(rename = "k8sAPIEndpoint")]
    k8s_api_endpoint: Option<Value>,
    k8s_key_file: Option<Value>,
    k8s_cert_file: Option<Value>,
    #[serde(rename = "k8sCAFile")]
    k8s_ca_file: Option<Value>,
    #[serde(rename = "k8sAPIToken")]
    k8s_api_token: Option<Value>,
    k8s_insecure_skip_tls_verify: Option<Value>,
    #[serde(rename = "k8sInsecureSkipTLSVerify")]
    k8s_insecure_skip_tls_verify_upper: Option<Value>,
    k8s_disable_node_poll: Option<Value>,
    #[serde(rename = "k8sClientQPS")]
    k8s_client_qps: Option<Value>,
    kubeconfig_inline: Option<Value>,
    k8s_current_context: Option<Value>,
    #[serde(rename = "calicoAPIGroup")]
    calico_api_group: Option<Value>,
}

/// Reads a document; the error is a reason without the path.
pub(super) fn read(text: &str) -> Result<Settings, String> {
    let document: Document = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let v1 = match (document.kind.as_str(), document.api_version.as_str()) {
        ("CalicoAPIConfig", "projectcalico.org/v3") => false,
        ("calicoApiConfig", "v1") => true,
        (kind, version) => {
            return Err(format!(
                "kind '{kind}' with apiVersion '{version}': must be CalicoAPIConfig with projectcalico.org/v3 \
                 (or the old calicoApiConfig with v1)"
            ));
        }
    };
    let spec = document.spec.unwrap_or_default();
    if !v1 && (spec.etcd_authority.is_some() || spec.etcd_scheme.is_some()) {
        return Err(
            "spec: etcdAuthority and etcdScheme belong to apiVersion v1; use etcdEndpoints".to_owned()
        );
    }
    Ok(settings(spec, v1))
}

fn settings(spec: Spec, v1: bool) -> Settings {
    let set = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
    let endpoints = set(spec.etcd_endpoints).or_else(|| {
        let authority = set(spec.etcd_authority)?;
        Some(format!("{}://{authority}", set(spec.etcd_scheme).as_deref().unwrap_or("http")))
    });
    Settings {
        names: if v1 { Names::OldFile } else { Names::File },
        datastore_type: set(spec.datastore_type),
        endpoints,
        discovery_srv: set(spec.etcd_discovery_srv),
        username: set(spec.etcd_username),
        password: set(spec.etcd_password),
        key_file: set(spec.etcd_key_file),
        certificate_file: set(spec.etcd_cert_file),
        authority_file: set(spec.etcd_ca_cert_file),
        key: set(spec.etcd_key),
        certificate: set(spec.etcd_cert),
        authority: set(spec.etcd_ca_cert),
    }
}
