//! Learning again.

use clap::Args;
use serde_json::json;

use super::Failure;
use super::output::count;
use super::session::Session;
use super::terminal::spinner;

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// Fail if what was stored was not what all episodes teach, and was put right
    #[arg(long)]
    verify: bool,
}

impl Rebuild {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let spinner = spinner("learning again");
        let rebuilt = session.with_records(async |opened| Ok(opened.memory.rebuild().await?)).await;
        spinner.finish_and_clear();
        let rebuilt = rebuilt?;
        let same = rebuilt.repaired == 0;
        let answer = json!({
            "episodes": rebuilt.episodes,
            "patterns": rebuilt.patterns,
            "repaired": rebuilt.repaired,
            "same": same,
        });
        session.out.tell(&answer, |paint| {
            let from = format!("{} teach {}", count(rebuilt.episodes, "episode"), count(rebuilt.patterns, "pattern"));
            match same {
                true => format!("{}: {from}, as is stored", paint.green("the same")),
                false => format!(
                    "{}: {from}; {} put right",
                    paint.red("not the same"),
                    count(rebuilt.repaired, "stored pattern")
                ),
            }
        });
        if self.verify && !same { Err(Failure::Told(1)) } else { Ok(()) }
    }
}
