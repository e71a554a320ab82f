//! With a config: the stages of a pipeline of it, one after the other, each given what the one before made; so that they
//! add up to what the pipeline costs.

use std::sync::Arc;

use anyhow::Result;
use standpipe_config::Config;
use standpipe_convert::CurrentRows;
use standpipe_flow::{Record, Transform};
use standpipe_worker::{OneDestination, Stages};

use super::input::Input;
use super::measure::Budget;
use super::records::Shape;
use super::report::{Measured, Row, progress};
use super::steps;

/// Measures the pipeline of this name, or the only one.
pub async fn measure(
    config: &Config,
    name: Option<&str>,
    (given, wanted): (Option<&Input>, &[String]),
    budget: &Budget,
) -> Result<Measured> {
    let pipeline = super::super::pipeline(config, name)?;
    let made_up = if given.is_none() { Some(Input::made_up(Shape::Orders)) } else { None };
    let Some(input) = given.or(made_up.as_ref()) else { return Ok(Measured::default()) };
    // What Glue would say is what the records look like.
    let rows = input.columns.clone().map(CurrentRows::from);
    let stages = standpipe_worker::stages(pipeline, &steps::platform(), rows.as_ref())?;
    let mut measuring = Measuring { input, wanted, budget, measured: Measured { sums: true, ..Measured::default() } };
    measuring.stages(&stages).await?;
    Ok(measuring.measured)
}

struct Measuring<'a> {
    input: &'a Input,
    wanted: &'a [String],
    budget: &'a Budget,
    measured: Measured,
}

impl Measuring<'_> {
    async fn stages(&mut self, stages: &Stages) -> Result<()> {
        let mut records = self.input.records();
        if self.begins("read", &records) {
            let figures = steps::read(&records, stages.unpack, self.budget).await?;
            self.measured.rows.push(Row::new("read", self.input, figures));
        }
        for one in &stages.transforms {
            match &one.transform {
                Some(transform) => records = self.transform(one.name, transform, &records).await?,
                // What a function would make of them is not known; they go on as they are.
                None => self.measured.left_out.push(one.name.to_owned()),
            }
        }
        for destination in &stages.destinations {
            self.destination(destination, &records).await?;
        }
        self.measured.left_out.extend(stages.others.iter().map(ToString::to_string));
        Ok(())
    }

    async fn destination(&mut self, destination: &OneDestination, records: &[Record]) -> Result<()> {
        let OneDestination { id, transform, format, compression } = destination;
        let mut own = None;
        if let Some(transform) = transform {
            own = Some(self.transform(&format!("{id}: partitions"), transform, records).await?);
        }
        let name = format!("{id}: encode");
        let records = own.as_deref().unwrap_or(records);
        if self.begins(&name, records) {
            let figures = steps::encode(records, (format, *compression), self.budget).await?;
            self.measured.rows.push(Row::new(&name, self.input, figures));
        }
        Ok(())
    }

    /// Measures a transform, if it is wanted; what it makes of the records, in any case.
    async fn transform(
        &mut self,
        name: &str,
        transform: &Arc<dyn Transform>,
        records: &[Record],
    ) -> Result<Vec<Record>> {
        let wanted = self.begins(name, records);
        let budget = if wanted { *self.budget } else { Budget::new(0.0) };
        let (figures, made) = steps::transform(transform, records, &budget).await?;
        if wanted {
            self.measured.rows.push(Row::new(name, self.input, figures));
        }
        Ok(made)
    }

    /// Whether a stage is wanted, and given anything.
    fn begins(&mut self, name: &str, records: &[Record]) -> bool {
        self.measured.known.push(name.to_owned());
        let wanted = self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.starts_with(wanted.as_str()));
        if wanted && records.is_empty() {
            self.measured.left_out.push(format!("{name} (no record comes so far)"));
            return false;
        }
        if wanted {
            progress(name);
        }
        wanted
    }
}
