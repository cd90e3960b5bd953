//! The CPU time of processes, out of `/proc`: what a request costs, whatever else the machine does.

use std::fs;

use anyhow::Context;

/// The processes of one side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processes {
    /// The HTTP server under load; none where the work is done in this process.
    pub(crate) server: Option<u32>,
    pub(crate) redis: u32,
    /// PostgreSQL's main process; its children count too, those that have ended included.
    pub(crate) postgres: u32,
}

/// CPU time in microseconds: used so far, or between two readings.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) server_us: u64,
    pub(crate) redis_us: u64,
    pub(crate) postgres_us: u64,
}

impl Cpu {
    pub(crate) fn now(processes: Processes) -> anyhow::Result<Cpu> {
        let server_us = match processes.server {
            Some(pid) => Stat::read(pid)?.own_us,
            None => 0,
        };
        let main = Stat::read(processes.postgres)?;
        let mut postgres_us = main.own_us + main.ended_children_us;
        for entry in fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            // One that ends meanwhile is counted with its parent the next time.
            if let Some(stat) = pid.and_then(|pid| Stat::read(pid).ok())
                && stat.parent == processes.postgres
            {
                postgres_us += stat.own_us;
            }
        }
        Ok(Cpu { server_us, redis_us: Stat::read(processes.redis)?.own_us, postgres_us })
    }

    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            server_us: self.server_us.saturating_sub(earlier.server_us),
            redis_us: self.redis_us.saturating_sub(earlier.redis_us),
            postgres_us: self.postgres_us.saturating_sub(earlier.postgres_us),
        }
    }
}

struct Stat {
    parent: u32,
    own_us: u64,
    ended_children_us: u64,
}

impl Stat {
    fn read(pid: u32) -> anyhow::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text, rustix::param::clock_ticks_per_second()).context("/proc/PID/stat reads otherwise")
    }

    fn parse(text: &str, ticks_per_second: u64) -> Option<Stat> {
        // The name is in parentheses and may have some itself.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let parent = fields.nth(1)?.parse().ok()?;
        let mut times = fields.skip(9).map(|field| field.parse::<u64>().ok());
        let mut next_two = || Some((times.next()?? + times.next()??) * 1_000_000 / ticks_per_second);
        Some(Stat { parent, own_us: next_two()?, ended_children_us: next_two()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_has_its_times_in_ticks() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 0 0 0 11 22 33 44 20 0 1 0 4711 99 5";
        let stat = Stat::parse(line, 100).unwrap();
        assert_eq!((stat.parent, stat.own_us, stat.ended_children_us), (3, 330_000, 770_000));
    }
}
