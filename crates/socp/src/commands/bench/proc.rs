//! What the system says a process has used: `/proc` of Linux. Elsewhere nothing is known, and nothing is reported.

use std::fs;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// Processor time, its own and the kernel's for it, in seconds.
    pub(super) cpu_s: f64,
    /// Resident memory in KiB.
    pub(super) rss_kib: u64,
}

/// What this process has used; nothing if it is gone or the system does not say.
pub(super) fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    Some(Usage {
        cpu_s: ratio(ticks, rustix::param::clock_ticks_per_second()),
        rss_kib: rss_kib(&status)?,
    })
}

/// User and system time in clock ticks, out of the text of `/proc/PID/stat` (proc(5)).
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets, and may hold anything, brackets and blanks too.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    // The state is field 3; user time is 14, system time 15.
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Resident memory, out of the text of `/proc/PID/status`. A process that ended and waits for its parent has none.
fn rss_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// One count by another; counts beyond 32 bits do not occur here and would only be shown as smaller.
pub(super) fn ratio(count: u64, by: u64) -> f64 {
    float(count) / float(by)
}

/// A count as a number that can be divided.
pub(super) fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 -1 4194560 500 0 0 0 123 45 0 0 20 0 4 0 100 1000 50";
        for name in ["socp", "a b", "a) S 1 (b"] {
            assert_eq!(cpu_ticks(&format!("42 ({name}) {rest}")), Some(168), "{name}");
        }
        assert_eq!(cpu_ticks("42 (socp) S 1 2 3"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn memory_is_that_of_a_living_process() {
        assert_eq!(rss_kib("Name:\tsocp\nVmRSS:\t   10412 kB\nThreads:\t4\n"), Some(10_412));
        assert_eq!(rss_kib("Name:\tsocp\nState:\tZ (zombie)\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        assert!(usage(std::process::id()).is_some_and(|used| used.rss_kib > 0 && used.cpu_s >= 0.0));
        // No process has this id: it is above the highest that Linux gives.
        assert_eq!(usage(u32::MAX), None);
    }
}
