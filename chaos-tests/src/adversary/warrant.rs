//! An operator's warrant, and a provider that carries it out at the second try.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stead::demo::stage::Stage;
use stead_proto::admin::Answer;
use stead_proto::command::Outcome;
use stead_proto::fence::{FencePolicy, Fencing};
use stead_proto::order::Act;
use stead_proto::site::Site;

use super::member::unix_ms;

const PATIENCE: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 86_400_000;

/// A fence command that keeps a diary.
#[derive(Debug)]
pub struct Warrant {
    diary: PathBuf,
}

impl Warrant {
    /// Gives it to a mesh: one node, until tomorrow.
    ///
    /// # Errors
    /// That the mesh does not take it.
    pub fn give(stage: &Stage) -> anyhow::Result<Self> {
        let (script, diary) = (stage.directory.join("fence"), stage.directory.join("fence.diary"));
        let text = format!(
            "#!/bin/sh\necho \"$@\" >> {diary}\n[ \"$(wc -l < {diary})\" -ge 2 ] || {{ echo no route to the provider; exit 1; }}\n",
            diary = diary.display()
        );
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700))?;
        let leader = stage.leader().context("nobody leads")?;
        let state = stage.status(leader)?.state;
        let policy = FencePolicy {
            command: vec![script.display().to_string()],
            nodes_max: 1,
            until_unix_ms: unix_ms() + DAY_MS,
        };
        let site = Box::new(Site { fence: Some(policy), ..state.site });
        let ordered =
            stage.order(leader, Act::Apply { base: state.site_version, site, text: String::new() })?;
        ensure!(matches!(ordered, Answer::Committed { outcome: Outcome::Site(_), .. }), "{ordered:?}");
        Ok(Self { diary })
    }

    /// Waits until the node that was cut off is fenced: how, and every call of the command, in order.
    ///
    /// # Errors
    /// That it was not.
    pub fn carried_out(&self, stage: &mut Stage) -> anyhow::Result<(Fencing, Vec<String>)> {
        let fencing = stage.until("it is fenced", PATIENCE, |stage| {
            let all = 0..stage.players.len();
            let fences =
                all.filter_map(|i| stage.status(i).ok()).find(|status| !status.state.fences.is_empty());
            let fencing = fences?.state.fences.into_values().next()?;
            fencing.outcome.as_ref().is_some_and(|outcome| outcome.failed.is_none()).then_some(fencing)
        })?;
        let diary = std::fs::read_to_string(&self.diary)?;
        Ok((fencing, diary.lines().map(String::from).collect()))
    }
}
