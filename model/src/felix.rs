//! The parameters of a FelixConfiguration: their names in the v3 API and the form of their values
//! (calico-datamodel 8.2, 8.3; `felix/docs/config-params.json`).
//!
//! Values are kept as they are, whether or not they fit: a reader must be able to say which of them is wrong. Only users'
//! documents are held to the forms.

/// The form of a parameter's value in the v3 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// True or false.
    Flag,
    /// A duration in Go's text form.
    Duration,
    /// A port, 0 to 65535.
    Port,
    /// A whole number.
    Integer,
    /// A mask of packet marks, 32 bits.
    Mark,
    /// Any text.
    Text,
    /// One of some words, in any case.
    Choice(&'static [&'static str]),
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// IPv4 addresses and networks.
    Ipv4List,
    /// One port or range of ports.
    PortRange,
    /// Up to 7 of them, without names.
    PortRanges,
    /// Protocols with ports, optionally of a network.
    ProtoPorts,
    /// First and last routing table.
    TableRange,
    /// Several of them.
    TableRanges,
    /// A selector of nodes.
    Selector,
    /// The sources at hand do not tell.
    Any,
}

const SWITCH: Form = Form::Choice(&["Enabled", "Disabled"]);
const LOG_LEVEL: Form = Form::Choice(&["Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None"]);
const COUNT: usize = 202;

/// The form of a parameter; `None` when there is no such parameter.
pub fn form(name: &str) -> Option<Form> {
    PARAMETERS.iter().find(|(known, _)| *known == name).map(|(_, form)| *form)
}

/// Every parameter, in alphabetical order.
pub static PARAMETERS: [(&str, Form); COUNT] = TABLE;

/// Their names alone.
pub static NAMES: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let mut i = 0;
    while i < COUNT {
        names[i] = TABLE[i].0;
        i += 1;
    }
    names
};

#[rustfmt::skip]
const TABLE: [(&str, Form); COUNT] = [
    ("allowIPIPPacketsFromWorkloads", Form::Flag),
    ("allowVXLANPacketsFromWorkloads", Form::Flag),
    ("awsSrcDstCheck", Form::Any),
    ("bpfAttachType", Form::Any),
    ("bpfConnectTimeLoadBalancing", Form::Any),
    ("bpfConnectTimeLoadBalancingEnabled", Form::Flag),
    ("bpfConntrackCleanupMode", Form::Any),
    ("bpfConntrackLogLevel", Form::Any),
    ("bpfConntrackTimeouts", Form::Any),
    ("bpfCTLBLogFilter", Form::Any),
    ("bpfDataIfacePattern", Form::Text),
    ("bpfDisableGROForIfaces", Form::Text),
    ("bpfDisableUnprivileged", Form::Flag),
    ("bpfDSROptoutCIDRs", Form::Any),
    ("bpfEnabled", Form::Flag),
    ("bpfEnforceRPF", Form::Any),
    ("bpfExcludeCIDRsFromNAT", Form::Any),
    ("bpfExportBufferSizeMB", Form::Integer),
    ("bpfExternalServiceMode", Form::Any),
    ("bpfExtToServiceConnmark", Form::Integer),
    ("bpfForceTrackPacketsFromIfaces", Form::Any),
    ("bpfHostConntrackBypass", Form::Flag),
    ("bpfHostNetworkedNATWithoutCTLB", Form::Any),
    ("bpfIPFragmentReassemblyEnabled", Form::Flag),
    ("bpfIPFragTimeout", Form::Duration),
    ("bpfJITHardening", Form::Any),
    ("bpfKubeProxyHealthzPort", Form::Port),
    ("bpfKubeProxyIptablesCleanupEnabled", Form::Flag),
    ("bpfKubeProxyMinSyncPeriod", Form::Duration),
    ("bpfL3IfacePattern", Form::Text),
    ("bpfLogFilters", Form::Any),
    ("bpfLogLevel", Form::Any),
    ("bpfMaglevMaxEndpointsPerService", Form::Integer),
    ("bpfMaglevMaxServices", Form::Integer),
    ("bpfMapSizeConntrack", Form::Integer),
    ("bpfMapSizeConntrackCleanupQueue", Form::Integer),
    ("bpfMapSizeConntrackScaling", Form::Any),
    ("bpfMapSizeIfState", Form::Integer),
    ("bpfMapSizeIPSets", Form::Integer),
    ("bpfMapSizeNATAffinity", Form::Integer),
    ("bpfMapSizeNATBackend", Form::Integer),
    ("bpfMapSizeNATFrontend", Form::Integer),
    ("bpfMapSizePerCPUConntrack", Form::Integer),
    ("bpfMapSizeRoute", Form::Integer),
    ("bpfOverlayHostSourceIP", Form::Any),
    ("bpfPolicyDebugEnabled", Form::Flag),
    ("bpfProfiling", Form::Any),
    ("bpfPSNATPorts", Form::Any),
    ("bpfRedirectToPeer", Form::Any),
    ("cgroupV2Path", Form::Text),
    ("chainInsertMode", Form::Choice(&["Insert", "Append"])),
    ("dataplaneDriver", Form::Text),
    ("dataplaneWatchdogTimeout", Form::Duration),
    ("debugDisableLogDropping", Form::Flag),
    ("debugHost", Form::Text),
    ("debugMemoryProfilePath", Form::Text),
    ("debugPort", Form::Port),
    ("debugSimulateCalcGraphHangAfter", Form::Duration),
    ("debugSimulateDataplaneApplyDelay", Form::Duration),
    ("debugSimulateDataplaneHangAfter", Form::Duration),
    ("defaultEndpointToHostAction", Form::Choice(&["Drop", "Return", "Accept"])),
    ("deviceRouteProtocol", Form::Integer),
    ("deviceRouteSourceAddress", Form::Ipv4),
    ("deviceRouteSourceAddressIPv6", Form::Ipv6),
    ("disableConntrackInvalidCheck", Form::Flag),
    ("endpointReportingDelay", Form::Duration),
    ("endpointReportingEnabled", Form::Flag),
    ("endpointStatusPathPrefix", Form::Text),
    ("externalNodesList", Form::Ipv4List),
    ("failsafeInboundHostPorts", Form::ProtoPorts),
    ("failsafeOutboundHostPorts", Form::ProtoPorts),
    ("featureDetectOverride", Form::Text),
    ("featureGates", Form::Text),
    ("floatingIPs", SWITCH),
    ("flowLogsCollectorDebugTrace", Form::Flag),
    ("flowLogsFlushInterval", Form::Duration),
    ("flowLogsGoldmaneServer", Form::Text),
    ("flowLogsLocalReporter", SWITCH),
    ("flowLogsPolicyEvaluationMode", Form::Choice(&["None", "Continuous"])),
    ("genericXDPEnabled", Form::Flag),
    ("goGCThreshold", Form::Integer),
    ("goMaxProcs", Form::Integer),
    ("goMemoryLimitMB", Form::Integer),
    ("healthEnabled", Form::Flag),
    ("healthHost", Form::Text),
    ("healthPort", Form::Port),
    ("healthTimeoutOverrides", Form::Any),
    ("interfaceExclude", Form::Text),
    ("interfacePrefix", Form::Text),
    ("interfaceRefreshInterval", Form::Duration),
    ("ipForwarding", SWITCH),
    ("ipipEnabled", Form::Flag),
    ("ipipMTU", Form::Integer),
    ("ipsetsRefreshInterval", Form::Duration),
    ("iptablesBackend", Form::Choice(&["Legacy", "NFT", "Auto"])),
    ("iptablesFilterAllowAction", Form::Choice(&["Accept", "Return"])),
    ("iptablesFilterDenyAction", Form::Choice(&["Drop", "Reject"])),
    ("iptablesLockFilePath", Form::Text),
    ("iptablesLockProbeInterval", Form::Duration),
    ("iptablesLockTimeout", Form::Duration),
    ("iptablesMangleAllowAction", Form::Choice(&["Accept", "Return"])),
    ("iptablesMarkMask", Form::Mark),
    ("iptablesNATOutgoingInterfaceFilter", Form::Text),
    ("iptablesPostWriteCheckInterval", Form::Duration),
    ("iptablesRefreshInterval", Form::Duration),
    ("ipv4ElevatedRoutePriority", Form::Integer),
    ("ipv4NormalRoutePriority", Form::Integer),
    ("ipv6ElevatedRoutePriority", Form::Integer),
    ("ipv6NormalRoutePriority", Form::Integer),
    ("ipv6Support", Form::Flag),
    ("istioAmbientMode", SWITCH),
    ("istioDSCPMark", Form::Any),
    ("kubeNodePortRanges", Form::PortRanges),
    ("liveMigrationRouteConvergenceTime", Form::Duration),
    ("localSubnetL2Reachability", SWITCH),
    ("localSubnetL2ReachabilityRefreshInterval", Form::Duration),
    ("logActionRateLimit", Form::Text),
    ("logActionRateLimitBurst", Form::Integer),
    ("logDebugFilenameRegex", Form::Text),
    ("logFilePath", Form::Text),
    ("logPrefix", Form::Text),
    ("logSeverityFile", LOG_LEVEL),
    ("logSeverityScreen", LOG_LEVEL),
    ("logSeveritySys", LOG_LEVEL),
    ("maxIpsetSize", Form::Integer),
    ("metadataAddr", Form::Text),
    ("metadataPort", Form::Port),
    ("mtuIfacePattern", Form::Text),
    ("natOutgoingAddress", Form::Ipv4),
    ("natOutgoingExclusions", Form::Choice(&["IPPoolsOnly", "IPPoolsAndHostIPs"])),
    ("natPortRange", Form::PortRange),
    ("netlinkTimeout", Form::Duration),
    ("nftablesFilterAllowAction", Form::Choice(&["Accept", "Return"])),
    ("nftablesFilterDenyAction", Form::Choice(&["Drop", "Reject"])),
    ("nftablesFlowTableDataIfacePattern", Form::Text),
    ("nftablesFlowTableOffload", SWITCH),
    ("nftablesMangleAllowAction", Form::Choice(&["Accept", "Return"])),
    ("nftablesMarkMask", Form::Mark),
    ("nftablesMode", Form::Choice(&["Auto", "Enabled", "Disabled"])),
    ("nftablesRefreshInterval", Form::Duration),
    ("nodeSelector", Form::Selector),
    ("openstackRegion", Form::Text),
    ("policySyncPathPrefix", Form::Text),
    ("programClusterRoutes", Form::Choice(&["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"])),
    ("prometheusGoMetricsEnabled", Form::Flag),
    ("prometheusMetricsCAFile", Form::Text),
    ("prometheusMetricsCertFile", Form::Text),
    ("prometheusMetricsClientAuth", Form::Text),
    ("prometheusMetricsEnabled", Form::Flag),
    ("prometheusMetricsHost", Form::Text),
    ("prometheusMetricsKeyFile", Form::Text),
    ("prometheusMetricsPort", Form::Port),
    ("prometheusProcessMetricsEnabled", Form::Flag),
    ("prometheusWireGuardMetricsEnabled", Form::Flag),
    ("removeExternalRoutes", Form::Flag),
    ("reportingInterval", Form::Duration),
    ("reportingTTL", Form::Duration),
    ("requireMTUFile", Form::Flag),
    ("routeRefreshInterval", Form::Duration),
    ("routeSource", Form::Choice(&["CalicoIPAM", "WorkloadIPs"])),
    ("routeSyncDisabled", Form::Flag),
    ("routeTableRange", Form::TableRange),
    ("routeTableRanges", Form::TableRanges),
    ("serviceLoopPrevention", Form::Choice(&["Drop", "Reject", "Disabled"])),
    ("sidecarAccelerationEnabled", Form::Flag),
    ("typhaAddr", Form::Text),
    ("typhaCAFile", Form::Text),
    ("typhaCertFile", Form::Text),
    ("typhaCN", Form::Text),
    ("typhaK8sNamespace", Form::Text),
    ("typhaK8sServiceName", Form::Text),
    ("typhaKeyFile", Form::Text),
    ("typhaReadTimeout", Form::Duration),
    ("typhaURISAN", Form::Text),
    ("typhaWriteTimeout", Form::Duration),
    ("usageReportingEnabled", Form::Flag),
    ("usageReportingInitialDelay", Form::Duration),
    ("usageReportingInterval", Form::Duration),
    ("useInternalDataplaneDriver", Form::Flag),
    ("vxlanEnabled", Form::Flag),
    ("vxlanMTU", Form::Integer),
    ("vxlanMTUV6", Form::Integer),
    ("vxlanPort", Form::Port),
    ("vxlanVNI", Form::Integer),
    ("windowsManageFirewallRules", Form::Any),
    ("windowsNetworkName", Form::Text),
    ("wireguardEnabled", Form::Flag),
    ("wireguardEnabledV6", Form::Flag),
    ("wireguardHostEncryptionEnabled", Form::Flag),
    ("wireguardInterfaceName", Form::Text),
    ("wireguardInterfaceNameV6", Form::Text),
    ("wireguardKeepAlive", Form::Duration),
    ("wireguardListeningPort", Form::Port),
    ("wireguardListeningPortV6", Form::Port),
    ("wireguardMTU", Form::Integer),
    ("wireguardMTUV6", Form::Integer),
    ("wireguardPersistentKeepAlive", Form::Duration),
    ("wireguardRoutingRulePriority", Form::Integer),
    ("wireguardThreadingEnabled", Form::Flag),
    ("workloadSourceSpoofing", Form::Choice(&["Disabled", "Any"])),
    ("xdpEnabled", Form::Flag),
    ("xdpRefreshInterval", Form::Duration),
];
