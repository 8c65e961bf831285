//! Resources every cluster has (calico-datamodel 7.5): created when absent; of existing ones only missing fields are
//! filled in.

use serde_json::{Map, Value, json};
use tortie_datastore::{Client, ClientError};
use tortie_model::resource::{
    BgpConfiguration, BgpConfigurationSpec, FelixConfiguration, FelixConfigurationSpec,
};

use super::new_metadata;

/// How often a fill-in starts over when others write at the same time.
const RETRIES: usize = 10;

/// Sees to the default FelixConfigurations and the default BGPConfiguration.
///
/// # Errors
/// The datastore's.
pub async fn ensure(client: &Client, node: &str) -> Result<(), ClientError> {
    let cluster = json!({"logSeverityScreen": "Info", "reportingInterval": "0s"});
    ensure_felix(client, "default", cluster).await?;
    let own = json!({"defaultEndpointToHostAction": "Return"});
    ensure_felix(client, &format!("node.{node}"), own).await?;
    let spec = BgpConfigurationSpec {
        log_severity_screen: Some("Info".into()),
        service_load_balancer_aggregation: Some("Enabled".into()),
        ..BgpConfigurationSpec::default()
    };
    match client.create(BgpConfiguration::new(new_metadata("default"), spec).into()).await {
        Ok(_) | Err(ClientError::AlreadyExists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn ensure_felix(client: &Client, name: &str, wanted: Value) -> Result<(), ClientError> {
    let Value::Object(wanted) = wanted else { return Ok(()) };
    let mut last = Ok(());
    for _ in 0..RETRIES {
        let outcome = match client.find::<FelixConfigurationSpec>(None, name).await? {
            Some(stored) => match filled_in(&stored, &wanted) {
                Some(filled) => client.update(filled.into()).await,
                None => return Ok(()),
            },
            None => client.create(created(name, &wanted).into()).await,
        };
        match outcome {
            Ok(_) => return Ok(()),
            Err(
                error @ (ClientError::AlreadyExists(_)
                | ClientError::Conflict(_)
                | ClientError::DoesNotExist(_)),
            ) => last = Err(error),
            Err(error) => return Err(error),
        }
    }
    last
}

/// A new object with the fields upstream's client writes into each (calico-datamodel 1.11).
fn created(name: &str, wanted: &Map<String, Value>) -> FelixConfiguration {
    let mut parameters = wanted.clone();
    for (field, value) in [
        ("floatingIPs", "Disabled"),
        ("bpfConnectTimeLoadBalancing", "TCP"),
        ("bpfHostNetworkedNATWithoutCTLB", "Enabled"),
    ] {
        parameters.insert(field.into(), value.into());
    }
    FelixConfiguration::new(new_metadata(name), FelixConfigurationSpec { parameters })
}

/// The object with missing fields filled in; `None` when there are none.
fn filled_in(stored: &FelixConfiguration, wanted: &Map<String, Value>) -> Option<FelixConfiguration> {
    let mut filled = stored.clone();
    for (field, value) in wanted {
        if filled.spec.parameters.get(field).is_none_or(Value::is_null) {
            filled.spec.parameters.insert(field.clone(), value.clone());
        }
    }
    (filled != *stored).then_some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tortie_datastore::memory::MemoryStore;

    #[tokio::test]
    async fn defaults_are_created_and_never_overwrite() {
        let client = Client::new(Arc::new(MemoryStore::default()));
        let parameters = Map::from_iter([("defaultEndpointToHostAction".to_owned(), json!("Accept"))]);
        let own = FelixConfiguration::new(new_metadata("node.n1"), FelixConfigurationSpec { parameters });
        client.create(own.into()).await.unwrap();
        let parameters = Map::from_iter([("logSeverityScreen".to_owned(), json!("Debug"))]);
        let cluster = FelixConfiguration::new(new_metadata("default"), FelixConfigurationSpec { parameters });
        client.create(cluster.into()).await.unwrap();

        for _ in 0..2 {
            ensure(&client, "n1").await.unwrap();
            ensure(&client, "n2").await.unwrap();
        }
        let felix = client.find_all::<FelixConfigurationSpec>().await.unwrap();
        let value = |name: &str, field: &str| {
            let object = felix.iter().find(|o| o.metadata.name == name).unwrap();
            object.spec.parameters.get(field).and_then(Value::as_str).map(str::to_owned)
        };
        assert_eq!(value("node.n1", "defaultEndpointToHostAction").as_deref(), Some("Accept"));
        assert_eq!(value("node.n2", "defaultEndpointToHostAction").as_deref(), Some("Return"));
        assert_eq!(value("node.n2", "floatingIPs").as_deref(), Some("Disabled"));
        assert_eq!(value("default", "logSeverityScreen").as_deref(), Some("Debug"));
        assert_eq!(value("default", "reportingInterval").as_deref(), Some("0s"));
        let bgp = client.find::<BgpConfigurationSpec>(None, "default").await.unwrap().unwrap();
        assert_eq!(bgp.spec.node_to_node_mesh_enabled, None);
    }
}
