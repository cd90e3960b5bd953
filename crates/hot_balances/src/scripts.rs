//! The scripts, sent once and called by their digests.

use redis::Script;

pub(crate) struct Scripts {
    pub(crate) hold: Script,
    pub(crate) fill: Script,
    pub(crate) publish: Script,
    pub(crate) release: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Scripts {
            hold: Script::new(include_str!("scripts/hold.lua")),
            fill: Script::new(include_str!("scripts/fill.lua")),
            publish: Script::new(include_str!("scripts/publish.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
        }
    }
}
