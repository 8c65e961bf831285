//! What a process uses, from /proc.

use std::fs;

/// Ticks of the kernel's clock for processes in a second: fixed for user space (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Processor seconds, resident and peak resident memory in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: f64,
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

impl Usage {
    /// Of a process; zeros when it is gone.
    pub(crate) fn of(pid: u32) -> Usage {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The command's name, in brackets, may hold anything.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks =
            after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mebibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let kibibytes = line.split_whitespace().nth(0).and_then(|word| word.parse::<f64>().ok());
            kibibytes.unwrap_or_default() / 1024.0
        };
        Usage { cpu: ticks.sum::<f64>() / TICKS, resident: mebibytes("VmRSS:"), peak: mebibytes("VmHWM:") }
    }
}

/// Processor seconds the whole machine has used, to see what somebody else did during a measurement.
#[allow(dead_code, reason = "one of the two programs that share this file asks for it")]
pub(crate) fn machine() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = words.take(8).enumerate().filter(|(index, _)| !(3..5).contains(index));
    busy.filter_map(|(_, word)| word.parse::<f64>().ok()).sum::<f64>() / TICKS
}
