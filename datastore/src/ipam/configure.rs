//! Changing IPAM's configuration, within the rules (calico-datamodel 4.1, SetIPAMConfig).

use tortie_model::Key;
use tortie_model::ipam::IpamConfig;

use super::settings::present_or_absent;
use super::{Ipam, IpamError, RETRIES};
use crate::store::{Operation, Outcome, Transaction};

impl Ipam {
    /// The configuration in force: what is stored, else the defaults.
    ///
    /// # Errors
    /// [`IpamError::Decode`], or the store's.
    pub async fn configuration(&self) -> Result<IpamConfig, IpamError> {
        Ok(self.config().await?.0)
    }

    /// Changes some settings; all others stay, those of other versions among them. Returns what is stored now.
    ///
    /// # Errors
    /// [`IpamError::Config`] with every rule the result would break; nothing is written then.
    pub async fn configure(&self, change: impl Fn(&mut IpamConfig)) -> Result<IpamConfig, IpamError> {
        let key = Key::IpamConfig.to_string();
        for _ in 0..RETRIES {
            let (mut config, revision) = self.config().await?;
            change(&mut config);
            let faults = config.faults();
            if !faults.is_empty() {
                return Err(IpamError::Config(faults));
            }
            let value = serde_json::to_vec(&config).expect("IPAM's values have text keys and whole numbers");
            let transaction = Transaction {
                compares: vec![present_or_absent(key.clone(), revision)],
                operations: vec![Operation::Put { key: key.clone(), value, lease: 0 }],
            };
            if let Outcome::Committed { .. } = self.client.store().transact(transaction).await? {
                return Ok(config);
            }
        }
        Err(IpamError::Contended)
    }
}
