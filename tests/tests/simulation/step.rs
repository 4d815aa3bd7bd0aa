//! A call to the store as the checker sees it, and its line in the history.

use longhand_coordinator::store::{
    Commit, Committed, CompareAndSwap, LeaseQuery, Lookup, Record, Renewal, Renewed, Result, Swapped, SweepLimits,
    Swept,
};
use longhand_proto::LeaseId;

/// A call to the store and its answer.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Submit,
    Lookup(&'a Result<Lookup>),
    Lease(&'a LeaseQuery, &'a Result<Vec<Record>>),
    Renew(&'a [Renewal], u64, &'a Result<Renewed>),
    Commit(&'a Commit, &'a Result<Committed>),
    Sweep(&'a SweepLimits, &'a Result<Vec<Swept>>),
    Swap(&'a CompareAndSwap, &'a Result<Swapped>),
    Cancel,
    Flush,
}

/// The line of a call in the history; none for a call that found nothing.
pub(crate) fn describe(step: &Step<'_>, changed: &[Record]) -> Option<String> {
    let what = match step {
        Step::Submit => "submit".to_owned(),
        Step::Lookup(_) => return None,
        Step::Lease(query, answer) => match answer {
            Ok(records) if records.is_empty() && changed.is_empty() => return None,
            Ok(records) => {
                let leases: Vec<_> =
                    records.iter().filter_map(|it| it.lease.as_ref()).map(|it| short(&it.id)).collect();
                format!("lease to {} request {} gave {leases:?}", query.worker, &query.request_id[..6])
            }
            Err(error) => format!("lease failed: {error}"),
        },
        Step::Renew([], ..) => return None,
        Step::Renew(renewals, _, answer) => {
            let line: Vec<_> = renewals
                .iter()
                .map(|it| {
                    let tokens = it.checkpoint.as_ref().map_or(0, |it| it.tokens.len());
                    format!("{} at {} with {tokens} from {}", short(&it.lease), it.progress, it.from)
                })
                .collect();
            let of = |ids: fn(&Renewed) -> &Vec<LeaseId>| answer.iter().flat_map(ids).map(short).collect::<Vec<_>>();
            format!("renew {line:?} lost {:?} cancelled {:?}", of(|it| &it.lost), of(|it| &it.cancelled))
        }
        Step::Commit(commit, answer) => {
            let answer = match answer {
                Ok(Committed::Done(_)) => "done",
                Ok(Committed::Repeated(_)) => "repeated",
                Ok(Committed::Stale) => "stale",
                Ok(Committed::Cancelling) => "cancelling",
                Err(_) => "failed",
            };
            format!("commit {} {:?} {}: {answer}", short(&commit.lease), commit.next, commit.detail)
        }
        Step::Sweep(_, answer) => match answer {
            Ok(swept) if swept.is_empty() && changed.is_empty() => return None,
            Ok(swept) => format!("sweep took {:?}", swept.iter().map(|it| short(&it.lease.id)).collect::<Vec<_>>()),
            Err(error) => format!("sweep failed: {error}"),
        },
        Step::Swap(swap, answer) => format!("swap of version {} to {:?}: {answer:?}", swap.version, swap.state),
        Step::Cancel => "the run is cancelled".to_owned(),
        Step::Flush => "flush".to_owned(),
    };
    let now: Vec<_> = changed
        .iter()
        .map(|it| {
            let body = blake3::hash(it.body.as_bytes()).to_hex();
            format!("{} v{} {} {}", short(&it.id), it.version, it.state.as_str(), &body[..6])
        })
        .collect();
    Some(format!("{what}; now {now:?}"))
}

fn short(id: &impl std::fmt::Display) -> String {
    let mut text = id.to_string();
    text.truncate(6);
    text
}
