//! KubeControllersConfiguration and CalicoNodeStatus (calico-datamodel 2.13).

use super::Report;
use super::bgp::log_level;
use super::meta::label;
use super::sets::networks;
use crate::resource::{CalicoNodeStatusSpec, Controllers, KubeControllersConfigurationSpec, NodeController};

const SWITCH: [&str; 2] = ["Enabled", "Disabled"];
/// A day.
const MAX_UPDATE_PERIOD: u32 = 86400;

pub(super) fn kube_controllers(spec: &KubeControllersConfigurationSpec, report: &mut Report) {
    log_level("spec.logSeverityScreen", &spec.log_severity_screen, report);
    switch("spec.healthChecks", &spec.health_checks, report);
    report.duration("spec.etcdV3CompactionPeriod", spec.etcd_v3_compaction_period.as_deref());
    for (path, port) in [
        ("spec.prometheusMetricsPort", spec.prometheus_metrics_port),
        ("spec.debugProfilePort", spec.debug_profile_port),
    ] {
        if let Some(port) = port.filter(|port| !(0..=65535).contains(port)) {
            report.bad(path, port, "must be a port, 0 to 65535");
        }
    }
    controllers(&spec.controllers, report);
}

fn controllers(all: &Controllers, report: &mut Report) {
    for (name, controller) in [
        ("policy", &all.policy),
        ("workloadEndpoint", &all.workload_endpoint),
        ("serviceAccount", &all.service_account),
        ("namespace", &all.namespace),
    ] {
        let period = controller.as_ref().and_then(|controller| controller.reconciler_period.as_deref());
        report.duration(&format!("spec.controllers.{name}.reconcilerPeriod"), period);
    }
    if let Some(node) = &all.node {
        node_controller(node, report);
    }
    if let Some(balancer) = &all.load_balancer {
        let assign = Some(balancer.assign_ips.as_str()).filter(|text| !text.is_empty());
        let path = "spec.controllers.loadBalancer.assignIPs";
        report.one_of(path, assign, &["AllServices", "RequestedServicesOnly"]);
    }
    if let Some(migration) = &all.migration {
        let migrator = migration.policy_name_migrator.as_deref().unwrap_or_default();
        switch("spec.controllers.migration.policyNameMigrator", migrator, report);
    }
}

fn node_controller(node: &NodeController, report: &mut Report) {
    let path = "spec.controllers.node";
    report.duration(&format!("{path}.reconcilerPeriod"), node.reconciler_period.as_deref());
    report.duration(&format!("{path}.leakGracePeriod"), node.leak_grace_period.as_deref());
    switch(&format!("{path}.syncLabels"), &node.sync_labels, report);
    let Some(endpoints) = &node.host_endpoint else { return };
    let path = format!("{path}.hostEndpoint");
    switch(&format!("{path}.autoCreate"), &endpoints.auto_create, report);
    let default = &endpoints.create_default_host_endpoint;
    switch(&format!("{path}.createDefaultHostEndpoint"), default, report);
    for (i, template) in endpoints.templates.iter().enumerate() {
        let path = format!("{path}.templates[{i}]");
        networks(&format!("{path}.interfaceCIDRs"), &template.interface_cidrs, report);
        report.selector_without_global(&format!("{path}.nodeSelector"), &template.node_selector);
        for (key, value) in &template.labels {
            label(&format!("{path}.labels"), key, value, report);
        }
    }
}

fn switch(path: &str, value: &str, report: &mut Report) {
    report.one_of(path, Some(value).filter(|text| !text.is_empty()), &SWITCH);
}

pub(super) fn node_status(spec: &CalicoNodeStatusSpec, report: &mut Report) {
    if spec.node.is_empty() {
        report.object("spec.node", "is required");
    }
    for (i, class) in spec.classes.iter().enumerate() {
        if spec.classes[..i].contains(class) {
            report.bad(format!("spec.classes[{i}]"), class, "stands there twice");
        }
    }
    match spec.update_period_seconds {
        None => report.object("spec.updatePeriodSeconds", "is required; 0 asks for a single report"),
        Some(seconds) if seconds > MAX_UPDATE_PERIOD => {
            report.bad("spec.updatePeriodSeconds", seconds, format!("must be from 0 to {MAX_UPDATE_PERIOD}"));
        }
        Some(_) => {}
    }
}
