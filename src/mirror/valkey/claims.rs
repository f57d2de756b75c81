//! Mitras that are taken out of the mirror: the silent, and those that the store no longer has.

use std::time::Duration;

use fred::types::Value;

use super::{
    ValkeyMirror, catalog, keys, millis, random,
    reply::{Reply, decimal},
};
use crate::{
    domain::{Fence, MitraId},
    mirror::{BATCH, Caution, Claimed, Claims, MirrorError, Restraint},
};

/// The structures that [`crate::mirror::Mirror::known`] walks; the number of one stands in the top bits of its cursor.
const STRUCTURES: u64 = 5;
const STRUCTURE_SHIFT: u32 = 60;

impl ValkeyMirror {
    /// How many are silent for so long, and a random sample of them.
    pub(super) async fn silent(&self, silent_for: Duration, limit: u32) -> Result<(u64, Vec<MitraId>), MirrorError> {
        let mut arguments = self.arguments(3);
        arguments.extend([Value::Integer(millis(silent_for)), Value::Integer(limit.into()), random()]);
        let mut reply = self.run(&catalog::SILENT, self.keys.fixed(0), arguments).await?;
        Ok((reply.number()?, ids(reply.list()?)?))
    }

    /// See [`crate::mirror::Mirror::claim_silent`].
    pub(super) async fn run_claim(
        &self,
        silent_for: Duration,
        limit: u32,
        caution: &Caution,
    ) -> Result<Claims, MirrorError> {
        // Also without candidates: that a restraint has ended is part of the score.
        let (_, candidates) = self.silent(silent_for, limit.min(BATCH as u32)).await?;
        let mut arguments = self.arguments(6 + candidates.len());
        arguments.extend(
            [
                millis(silent_for),
                millis(caution.sweep),
                caution.share_percent.into(),
                caution.at_least.into(),
                caution.doubted_from.into(),
                millis(caution.release_after),
            ]
            .map(Value::Integer),
        );
        arguments.extend(candidates.iter().map(|id| Value::from(id.to_string())));
        let mut keys = self.keys_of(candidates.into_iter());
        keys.insert(keys::FIXED, self.keys.caution.clone());
        let mut reply = self.run(&catalog::CLAIM, keys, arguments).await?;
        reply.pulse()?;
        let mut words = reply.list()?;
        let mut claimed = Vec::with_capacity(words.len() / 3);
        while words.len() > 0 {
            let (id, online_epoch, last_ms) = (words.id()?, words.number()?, words.number()?);
            claimed.extend(id.map(|id| Claimed { id, online_epoch, last_ms }));
        }
        let left = reply.number()?;
        let restraint = match reply.text()?.as_str() {
            "brake" => Some(Restraint::Brake),
            "doubt" => Some(Restraint::Doubt),
            "lost" => Some(Restraint::Lost),
            _ => None,
        };
        let held_for = Duration::from_millis(reply.number()?);
        Ok(Claims { claimed, left, restraint: restraint.map(|restraint| (restraint, held_for)) })
    }

    /// See [`crate::mirror::Mirror::unclaim`].
    pub(super) async fn run_unclaim(&self, claimed: &[Claimed]) -> Result<(), MirrorError> {
        for batch in claimed.chunks(BATCH) {
            let mut arguments = self.arguments(batch.len() * 3);
            for claim in batch {
                arguments.extend([
                    Value::from(claim.id.to_string()),
                    Value::from(decimal(claim.online_epoch).to_string()),
                    Value::Integer(i64::try_from(claim.last_ms).unwrap_or(i64::MAX)),
                ]);
            }
            let keys = self.keys_of(batch.iter().map(|claim| claim.id));
            self.run(&catalog::UNCLAIM, keys, arguments).await?.into_pulse()?;
        }
        Ok(())
    }

    /// See [`crate::mirror::Mirror::known`].
    pub(super) async fn page_of_known(&self, cursor: u64) -> Result<(u64, Vec<MitraId>), MirrorError> {
        let structure = cursor >> STRUCTURE_SHIFT;
        let mut arguments = self.arguments(2);
        // As text: a cursor may be too large for a signed number.
        arguments.extend([
            Value::from(structure.to_string()),
            Value::from((cursor & ((1 << STRUCTURE_SHIFT) - 1)).to_string()),
        ]);
        let mut reply = self.run(&catalog::KNOWN, self.keys.fixed(0), arguments).await?;
        let next: u64 = reply.number()?;
        let ids = ids(reply.list()?)?;
        let next = match next {
            0 if structure + 1 == STRUCTURES => 0,
            0 => (structure + 1) << STRUCTURE_SHIFT,
            within => (structure << STRUCTURE_SHIFT) | within,
        };
        Ok((next, ids))
    }

    /// See [`crate::mirror::Mirror::forget`].
    pub(super) async fn run_forget(&self, ids: &[(MitraId, Fence)]) -> Result<u64, MirrorError> {
        let mut removed = 0;
        for batch in ids.chunks(BATCH) {
            let mut arguments = self.arguments(batch.len() * 3);
            for (id, seen) in batch {
                arguments.extend(
                    [id.to_string(), decimal(seen.generation).to_string(), decimal(seen.revision).to_string()]
                        .map(Value::from),
                );
            }
            let keys = self.keys_of(batch.iter().map(|(id, _)| *id));
            let mut reply = self.run(&catalog::FORGET, keys, arguments).await?;
            reply.pulse()?;
            removed += reply.number::<u64>()?;
        }
        Ok(removed)
    }
}

fn ids(mut reply: Reply) -> Result<Vec<MitraId>, MirrorError> {
    let mut ids = Vec::with_capacity(reply.len());
    while reply.len() > 0 {
        ids.extend(reply.id::<MitraId>()?);
    }
    Ok(ids)
}
