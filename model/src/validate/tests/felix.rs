//! Parameters of a FelixConfiguration: every name of calico-datamodel 8, and the forms of their values.

use super::check;
use crate::Kind;
use crate::felix::{Form, PARAMETERS, form};

/// Names of 8.2 and 8.3 as the file and the environment have them; `=` gives the v3 name where it is another one.
const NAMES: &str = "
InterfacePrefix InterfaceExclude DefaultEndpointToHostAction ChainInsertMode IptablesFilterAllowAction
NftablesFilterAllowAction IptablesMangleAllowAction NftablesMangleAllowAction IptablesFilterDenyAction
NftablesFilterDenyAction IptablesMarkMask NftablesMarkMask NFTablesMode=nftablesMode NftablesRefreshInterval
IptablesRefreshInterval IpsetsRefreshInterval RouteRefreshInterval InterfaceRefreshInterval XDPRefreshInterval
MaxIpsetSize LogPrefix LogActionRateLimit LogActionRateLimitBurst FailsafeInboundHostPorts FailsafeOutboundHostPorts
KubeNodePortRanges NATPortRange NATOutgoingAddress NATOutgoingExclusions IptablesNATOutgoingInterfaceFilter
ServiceLoopPrevention WorkloadSourceSpoofing FloatingIPs AllowVXLANPacketsFromWorkloads AllowIPIPPacketsFromWorkloads
DisableConntrackInvalidCheck Ipv6Support IPForwarding DeviceRouteProtocol DeviceRouteSourceAddress
DeviceRouteSourceAddressIPv6 RemoveExternalRoutes RouteSyncDisabled RouteSource RouteTableRange RouteTableRanges
IPv4NormalRoutePriority=ipv4NormalRoutePriority IPv6NormalRoutePriority=ipv6NormalRoutePriority
IPv4ElevatedRoutePriority=ipv4ElevatedRoutePriority IPv6ElevatedRoutePriority=ipv6ElevatedRoutePriority
ProgramClusterRoutes IpInIpEnabled=ipipEnabled VXLANEnabled IpInIpMtu=ipipMTU VXLANMTU=vxlanMTU VXLANMTUV6=vxlanMTUV6
WireguardMTU WireguardMTUV6 MTUIfacePattern RequireMTUFile VXLANPort VXLANVNI=vxlanVNI WireguardEnabled WireguardEnabledV6
WireguardHostEncryptionEnabled WireguardListeningPort WireguardListeningPortV6 WireguardInterfaceName
WireguardInterfaceNameV6 WireguardRoutingRulePriority WireguardPersistentKeepAlive
ExternalNodesCIDRList=externalNodesList LocalSubnetL2Reachability LocalSubnetL2ReachabilityRefreshInterval
NetlinkTimeoutSecs=netlinkTimeout DataplaneWatchdogTimeout EndpointStatusPathPrefix EndpointReportingEnabled
EndpointReportingDelaySecs=endpointReportingDelay ReportingIntervalSecs=reportingInterval ReportingTTLSecs=reportingTTL
OpenstackRegion PolicySyncPathPrefix HealthEnabled HealthHost HealthPort PrometheusMetricsEnabled PrometheusMetricsHost
PrometheusMetricsPort PrometheusGoMetricsEnabled PrometheusProcessMetricsEnabled PrometheusWireGuardMetricsEnabled
LogSeverityScreen LogSeverityFile LogSeveritySys LogFilePath MetadataAddr MetadataPort UsageReportingEnabled
UsageReportingInitialDelay UsageReportingInterval FlowLogsFlushInterval FlowLogsGoldmaneServer FlowLogsLocalReporter
FlowLogsPolicyEvaluationMode FlowLogsCollectorDebugTrace NFTablesFlowTableOffload=nftablesFlowTableOffload
NFTablesFlowTableDataIfacePattern=nftablesFlowTableDataIfacePattern IstioAmbientMode IstioDSCPMark
LiveMigrationRouteConvergenceTime TyphaAddr TyphaK8sServiceName DebugHost DebugPort
BPFAttachType BPFConnectTimeLoadBalancing BPFConnectTimeLoadBalancingEnabled BPFConntrackCleanupMode BPFConntrackLogLevel
BPFConntrackTimeouts BPFCTLBLogFilter=bpfCTLBLogFilter BPFDataIfacePattern BPFDisableGROForIfaces BPFDisableUnprivileged
BPFDSROptoutCIDRs=bpfDSROptoutCIDRs BPFEnabled BPFEnforceRPF BPFExcludeCIDRsFromNAT BPFExportBufferSizeMB
BPFExternalServiceMode BPFExtToServiceConnmark BPFForceTrackPacketsFromIfaces BPFHostConntrackBypass
BPFHostNetworkedNATWithoutCTLB BPFIPFragmentReassemblyEnabled=bpfIPFragmentReassemblyEnabled
BPFIPFragTimeout=bpfIPFragTimeout BPFJITHardening=bpfJITHardening BPFKubeProxyHealthzPort
BPFKubeProxyIptablesCleanupEnabled BPFKubeProxyMinSyncPeriod BPFL3IfacePattern=bpfL3IfacePattern BPFLogFilters BPFLogLevel
BPFMaglevMaxEndpointsPerService BPFMaglevMaxServices BPFMapSizeConntrack BPFMapSizeConntrackCleanupQueue
BPFMapSizeConntrackScaling BPFMapSizeIPSets BPFMapSizeIfState BPFMapSizeNATAffinity BPFMapSizeNATBackend
BPFMapSizeNATFrontend BPFMapSizePerCPUConntrack BPFMapSizeRoute BPFOverlayHostSourceIP BPFPolicyDebugEnabled BPFProfiling
BPFPSNATPorts=bpfPSNATPorts BPFRedirectToPeer XDPEnabled GenericXDPEnabled SidecarAccelerationEnabled AWSSrcDstCheck
FeatureDetectOverride FeatureGates GoGCThreshold GoMaxProcs GoMemoryLimitMB CgroupV2Path DataplaneDriver
UseInternalDataplaneDriver WindowsManageFirewallRules";

/// Lower camel case: the capitals a name begins with, but for the one that begins its next word.
fn v3_name(entry: &str) -> String {
    if let Some((_, name)) = entry.split_once('=') {
        return name.to_owned();
    }
    let capitals = entry.bytes().take_while(u8::is_ascii_uppercase).count();
    let first = if capitals > 1 { capitals - 1 } else { 1 };
    entry[..first].to_lowercase() + &entry[first..]
}

#[test]
fn every_parameter_of_upstream_is_known() {
    for entry in NAMES.split_whitespace() {
        let name = v3_name(entry);
        assert!(form(&name).is_some(), "{entry}: {name}");
    }
    let mut names: Vec<&str> = PARAMETERS.iter().map(|(name, _)| *name).collect();
    let len = names.len();
    names.dedup();
    assert_eq!(names.len(), len, "a parameter stands there twice");
}

#[test]
fn forms() {
    check(
        Kind::FelixConfiguration,
        "default",
        &[
            ("{iptablesMarkMask: 0xffff0000, nftablesMarkMask: 4294967295}", &[]),
            (
                "{iptablesMarkMask: '0xffff0000', nftablesMarkMask: 4294967296}",
                &["spec.iptablesMarkMask", "spec.nftablesMarkMask"],
            ),
            ("{defaultEndpointToHostAction: RETURN, logSeverityScreen: debug, floatingIPs: enabled}", &[]),
            ("{natOutgoingAddress: 10.0.0.1, deviceRouteSourceAddressIPv6: 'fd00::1'}", &[]),
            (
                "{natOutgoingAddress: 'fd00::1', deviceRouteSourceAddressIPv6: 10.0.0.1}",
                &["spec.natOutgoingAddress", "spec.deviceRouteSourceAddressIPv6"],
            ),
            ("{natPortRange: '1000:2000', kubeNodePortRanges: ['30000:32767', 80]}", &[]),
            (
                "{natPortRange: http, kubeNodePortRanges: [http, '9:1']}",
                &["spec.natPortRange", "spec.kubeNodePortRanges[0]", "spec.kubeNodePortRanges[1]"],
            ),
            ("{kubeNodePortRanges: [1, 2, 3, 4, 5, 6, 7]}", &[]),
            ("{kubeNodePortRanges: [1, 2, 3, 4, 5, 6, 7, 8]}", &["spec.kubeNodePortRanges"]),
            ("{kubeNodePortRanges: 80}", &["spec.kubeNodePortRanges"]),
            ("{externalNodesList: [10.0.0.0/8, 10.0.0.1]}", &[]),
            (
                "{externalNodesList: ['fd00::1', x]}",
                &["spec.externalNodesList[0]", "spec.externalNodesList[1]"],
            ),
            (
                "{failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [{protocol: TCP, port: 22, net: 10.0.0.0/8}]}",
                &[],
            ),
            (
                "{failsafeInboundHostPorts: [{protocol: x, port: 65536, net: y, nett: z}, 22]}",
                &[
                    "spec.failsafeInboundHostPorts[0].protocol",
                    "spec.failsafeInboundHostPorts[0].port",
                    "spec.failsafeInboundHostPorts[0].net",
                    "spec.failsafeInboundHostPorts[0].nett",
                    "spec.failsafeInboundHostPorts[1]",
                ],
            ),
            ("{routeTableRange: {min: 1, max: 250}}", &[]),
            ("{routeTableRange: {min: 0, max: 250}}", &["spec.routeTableRange"]),
            ("{routeTableRanges: [{min: 1, max: 250}, {min: 1000, max: 66284}]}", &[]),
            ("{routeTableRanges: [{min: 1, max: 250}, {min: 1000, max: 66285}]}", &["spec.routeTableRanges"]),
            ("{routeTableRanges: [{min: 9, max: 8}]}", &["spec.routeTableRanges[0]"]),
            (
                "{routeTableRange: {min: 1, max: 2}, routeTableRanges: [{min: 1, max: 2}]}",
                &["spec.routeTableRange"],
            ),
            (
                "{bpfLogLevel: Debug, bpfConntrackTimeouts: {creationGracePeriod: 10s}, bpfEnabled: false}",
                &[],
            ),
            (
                "{logPrefix: 5, ipipMTU: big, xdpEnabled: 'true'}",
                &["spec.logPrefix", "spec.ipipMTU", "spec.xdpEnabled"],
            ),
        ],
    );
    check(
        Kind::FelixConfiguration,
        "rack-a",
        &[("{nodeSelector: rack == 'a'}", &[]), ("{nodeSelector: rack = 'a'}", &["spec.nodeSelector"])],
    );
    assert_eq!(form("nodeSelector"), Some(Form::Selector));
}
