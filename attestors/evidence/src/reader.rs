//! The one way in for hostile bytes: a cursor that cannot run past its end.
//!
//! Every parser of the house takes what it needs through this type and then calls
//! [`Reader::finish`], so that a length is looked at before it is used and a trailing byte is a
//! fault. It allocates nothing; all numbers are big-endian, as in the TPM and in our own messages.

/// What stands between the bytes and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("{needed} bytes needed, {left} left")]
    Short { needed: usize, left: usize },
    #[error("a field of {found} bytes where at most {max} may stand")]
    TooLong { found: usize, max: usize },
    #[error("{left} bytes left over at the end")]
    Trailing { left: usize },
}

#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn u8(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ReadError::Short { needed: N, left: self.rest.len() })?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], ReadError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or(ReadError::Short { needed: n, left: self.rest.len() })?;
        self.rest = rest;
        Ok(head)
    }

    /// A 16-bit length and that many bytes, which may be at most `max`.
    pub fn sized16(&mut self, max: usize) -> Result<&'a [u8], ReadError> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(ReadError::TooLong { found: length, max });
        }
        self.take(length)
    }

    /// What has not been read yet; reading goes on behind it only by `take`.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left: a byte that no field explains is a byte somebody added.
    pub const fn finish(self) -> Result<(), ReadError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(ReadError::Trailing { left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_big_endian_and_the_end_is_the_end() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u32(), Ok(0x0405_0607));
        assert_eq!(reader.u8(), Err(ReadError::Short { needed: 1, left: 0 }));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_refused_read_takes_nothing() {
        let mut reader = Reader::new(&[0, 9, 1]);
        assert_eq!(reader.take(4), Err(ReadError::Short { needed: 4, left: 3 }));
        assert_eq!(reader.u64(), Err(ReadError::Short { needed: 8, left: 3 }));
        assert_eq!(reader.sized16(8), Err(ReadError::TooLong { found: 9, max: 8 }));
        assert_eq!(reader.finish(), Err(ReadError::Trailing { left: 1 }));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(
            Reader::new(&[0, 2, 1]).sized16(8),
            Err(ReadError::Short { needed: 2, left: 1 })
        );
        assert_eq!(
            Reader::new(&[]).take(usize::MAX),
            Err(ReadError::Short { needed: usize::MAX, left: 0 })
        );
    }
}
