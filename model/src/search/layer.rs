//! The frontier: states that were found and not explored yet.

/// The states of one depth, in chunks, so that memory is freed chunk by chunk and never moved.
pub(super) struct Layer<S>(Vec<Vec<S>>);

impl<S> Default for Layer<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> Layer<S> {
    const CHUNK: usize = 1 << 12;

    pub(super) fn push(&mut self, state: S) {
        match self.0.last_mut().filter(|piece| piece.len() < Self::CHUNK) {
            Some(piece) => piece.push(state),
            None => {
                let mut piece = Vec::with_capacity(Self::CHUNK);
                piece.push(state);
                self.0.push(piece);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<S> {
        let piece = self.0.last_mut()?;
        let state = piece.pop();
        if piece.is_empty() {
            self.0.pop();
        }
        state
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_comes_out_again() {
        let mut layer = Layer::default();
        for n in 0..10_000 {
            layer.push(n);
        }
        let mut out: Vec<u32> = std::iter::from_fn(|| layer.pop()).collect();
        out.sort_unstable();
        assert!(layer.is_empty() && out.into_iter().eq(0..10_000));
    }
}
