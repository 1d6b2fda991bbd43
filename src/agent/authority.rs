//! Lets clients in whose HTTP/2 `:authority` is the path of the socket.
//!
//! Over a Unix socket there is no authority, and libraries fill the field as they like: gRPC's C
//! core (Python, C++, Ruby and others) with the path, percent-encoded, Netty with the bare path. Our
//! HTTP/2 library resets such streams (`PROTOCOL_ERROR`) before a call is seen, and nothing here
//! ever reads the field. So the bytes on their way in are followed, and in the value of
//! `:authority` every byte that no authority may have becomes `-`. Lengths stay as they are, so both ends
//! agree on every frame and on the size of each entry of the header table (RFC 7541, 4.1).
//!
//! Only what is written plainly is followed: a Huffman-coded value goes through as it came, and
//! whatever is malformed is for the HTTP/2 library to refuse. It keeps a few counters and no bytes.

/// Follows the client's bytes of one connection.
#[derive(Debug)]
pub struct Authority {
    at: At,
    /// What the frame being read is.
    frame: Frame,
    /// Where the header block being read stands; goes on over CONTINUATION frames.
    field: Field,
    /// How much of `:authority` a name spelt out has matched; nothing once it has not.
    spelt: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    /// Payload still to come.
    left: u32,
    /// Of it, padding at the end.
    padding: u32,
}

/// Where in the connection (RFC 9113, 3.4, 4.1, 6.2).
#[derive(Debug, Clone, Copy)]
enum At {
    /// The client's preface: so many bytes to go.
    Preface(u8),
    /// A frame's header: so many bytes of it are read.
    Head(u8),
    /// The length of the padding.
    Padding,
    /// Stream dependency and weight: so many bytes to go.
    Priority(u8),
    Block,
    /// Payload of no interest.
    Pass,
}

/// Where in a header block (RFC 7541, 5 and 6).
#[derive(Debug, Clone, Copy)]
enum Field {
    Start,
    /// The rest of an integer that fits no prefix; then this.
    Integer(After),
    NameLength,
    Name(u64),
    ValueLength {
        authority: bool,
    },
    Value {
        left: u64,
        rewrite: bool,
    },
    /// The rest of a string's length, and what the string is.
    Length {
        string: Text,
        value: u64,
        shift: u32,
    },
    /// Not followed any more; the block is malformed.
    Lost,
}

#[derive(Debug, Clone, Copy)]
enum After {
    Start,
    Value,
}

#[derive(Debug, Clone, Copy)]
enum Text {
    Name { plain: bool },
    Value { rewrite: bool },
}

impl Default for Authority {
    fn default() -> Self {
        Self { at: At::Preface(PREFACE), frame: Frame::default(), field: Field::Start, spelt: None }
    }
}

impl Authority {
    /// Follows `bytes`, the next ones that the client sent.
    pub fn follow(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.step(*byte);
        }
    }

    fn step(&mut self, byte: u8) -> u8 {
        match self.at {
            At::Preface(left) => {
                self.at = if left > 1 { At::Preface(left - 1) } else { At::Head(0) };
                byte
            }
            At::Head(read) => {
                self.head(read, byte);
                byte
            }
            At::Padding => {
                self.frame.padding = u32::from(byte);
                let next =
                    if self.frame.flags & PRIORITY != 0 { At::Priority(5) } else { At::Block };
                self.advance(next);
                byte
            }
            At::Priority(left) => {
                self.advance(if left > 1 { At::Priority(left - 1) } else { At::Block });
                byte
            }
            At::Block => {
                let byte = self.block(byte);
                self.advance(At::Block);
                byte
            }
            At::Pass => {
                self.advance(At::Pass);
                byte
            }
        }
    }

    /// Length (24 bits), type, flags, stream (RFC 9113, 4.1).
    fn head(&mut self, read: u8, byte: u8) {
        match read {
            0 => self.frame = Frame { left: u32::from(byte), ..Frame::default() },
            1 | 2 => self.frame.left = self.frame.left << 8 | u32::from(byte),
            3 => self.frame.kind = byte,
            4 => self.frame.flags = byte,
            _ => {}
        }
        if read < 8 {
            self.at = At::Head(read + 1);
            return;
        }
        self.at = match self.frame.kind {
            HEADERS => {
                self.field = Field::Start;
                if self.frame.flags & PADDED != 0 {
                    At::Padding
                } else if self.frame.flags & PRIORITY != 0 {
                    At::Priority(5)
                } else {
                    At::Block
                }
            }
            CONTINUATION => At::Block,
            _ => At::Pass,
        };
        self.settle();
    }

    /// One byte of payload is read; `next` is what follows if there is more.
    fn advance(&mut self, next: At) {
        self.frame.left = self.frame.left.saturating_sub(1);
        self.at = next;
        self.settle();
    }

    fn settle(&mut self) {
        if self.frame.left == 0 {
            self.at = At::Head(0);
        } else if matches!(self.at, At::Block) && self.frame.left <= self.frame.padding {
            self.at = At::Pass;
        }
    }

    fn block(&mut self, byte: u8) -> u8 {
        match self.field {
            Field::Start => self.field = self.representation(byte),
            Field::Integer(after) => {
                if byte & 0x80 == 0 {
                    self.field = match after {
                        After::Start => Field::Start,
                        After::Value => Field::ValueLength { authority: false },
                    };
                }
            }
            Field::NameLength => {
                let string = Text::Name { plain: byte & 0x80 == 0 };
                self.field = self.length(string, byte);
            }
            Field::ValueLength { authority } => {
                let string = Text::Value { rewrite: authority && byte & 0x80 == 0 };
                self.field = self.length(string, byte);
            }
            Field::Length { string, value, shift } => {
                // Far beyond any header list that is accepted: no need to follow.
                if shift > 28 {
                    self.field = Field::Lost;
                    return byte;
                }
                let value = value + (u64::from(byte & 0x7f) << shift);
                self.field = if byte & 0x80 == 0 {
                    self.string(string, value)
                } else {
                    Field::Length { string, value, shift: shift + 7 }
                };
            }
            Field::Name(left) => {
                self.spelt = self
                    .spelt
                    .filter(|matched| NAME.get(*matched) == Some(&byte))
                    .map(|matched| matched + 1);
                self.field = match left {
                    0 | 1 => Field::ValueLength { authority: self.spelt == Some(NAME.len()) },
                    more => Field::Name(more - 1),
                };
            }
            Field::Value { left, rewrite } => {
                self.field = match left {
                    0 | 1 => Field::Start,
                    more => Field::Value { left: more - 1, rewrite },
                };
                return if rewrite { allowed(byte) } else { byte };
            }
            Field::Lost => {}
        }
        byte
    }

    /// The first byte of a field (RFC 7541, 6.1 to 6.3).
    fn representation(&self, byte: u8) -> Field {
        let (prefix, literal) = match byte {
            0x80.. => (0x7f, false),
            0x40.. => (0x3f, true),
            0x20.. => (0x1f, false),
            _ => (0x0f, true),
        };
        match (byte & prefix, literal) {
            (index, false) if index == prefix => Field::Integer(After::Start),
            (_, false) => Field::Start,
            (0, true) => Field::NameLength,
            (index, true) if index == prefix => Field::Integer(After::Value),
            (index, true) => Field::ValueLength { authority: index == STATIC_AUTHORITY },
        }
    }

    /// The first byte of a string's length (RFC 7541, 5.2).
    fn length(&mut self, string: Text, byte: u8) -> Field {
        match byte & 0x7f {
            0x7f => Field::Length { string, value: 0x7f, shift: 0 },
            value => self.string(string, u64::from(value)),
        }
    }

    fn string(&mut self, string: Text, length: u64) -> Field {
        match (string, length) {
            (Text::Name { .. }, 0) => Field::ValueLength { authority: false },
            (Text::Name { plain }, length) => {
                self.spelt = plain.then_some(0);
                Field::Name(length)
            }
            (Text::Value { .. }, 0) => Field::Start,
            (Text::Value { rewrite }, left) => Field::Value { left, rewrite },
        }
    }
}

/// Of the characters of an authority (RFC 3986, 3.2) those that stand for themselves.
fn allowed(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => byte,
        b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'[' | b']' => byte,
        _ => b'-',
    }
}

/// `PRI * HTTP/2.0`, two line ends, `SM`, two line ends.
const PREFACE: u8 = 24;
const NAME: &[u8] = b":authority";
/// Its index in the static table (RFC 7541, appendix A).
const STATIC_AUTHORITY: u8 = 1;

// RFC 9113, 6.2 and 6.10.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PREFACE_BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// With incremental indexing, name by static index 1, plain value.
    fn authority(value: &[u8]) -> Vec<u8> {
        [&[0x41, u8::try_from(value.len()).unwrap()], value].concat()
    }

    fn followed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [PREFACE_BYTES, &frames.concat()].concat();
        let mut at_once = bytes.clone();
        Authority::default().follow(&mut at_once);
        // However the bytes are cut, the outcome is the same.
        let mut follower = Authority::default();
        for piece in bytes.chunks_mut(3) {
            follower.follow(piece);
        }
        assert_eq!(at_once, bytes);
        bytes.split_off(PREFACE_BYTES.len())
    }

    #[test]
    fn a_path_as_authority_becomes_a_name_of_the_same_length() {
        // :method POST and :scheme http by index, then the authority, then another literal.
        let path = [0x04, 0x83, 0x60, 0x61, 0x62];
        let block = [&[0x83, 0x86], &authority(b"tmp%2Fhs.sock")[..], &path].concat();
        let expected = [&[0x83, 0x86], &authority(b"tmp-2Fhs.sock")[..], &path].concat();
        let data = frame(0, 0, b"%2F is content here");
        let settings = frame(4, 0, &[0; 6]);
        let frames = [settings.clone(), frame(1, 4, &block), data.clone(), frame(1, 4, &block)];
        let wanted = [settings, frame(1, 4, &expected), data, frame(1, 4, &expected)];
        assert_eq!(followed(&frames), wanted.concat());
    }

    #[test]
    fn the_bare_path_and_a_spelt_out_name_are_found() {
        let spelt = [&[0x10, 10], &b":authority"[..], &[5], b"/a/b/"].concat();
        let wanted = [&[0x10, 10], &b":authority"[..], &[5], b"-a-b-"].concat();
        assert_eq!(followed(&[frame(1, 4, &spelt)]), frame(1, 4, &wanted));
        let other = [&[0x10, 10], &b":authoritx"[..], &[5], b"/a/b/"].concat();
        assert_eq!(followed(&[frame(1, 4, &other)]), frame(1, 4, &other));
    }

    #[test]
    fn padding_priority_and_continuation_are_followed() {
        let block = authority(b"%%%%");
        let wanted = authority(b"----");
        let around = |block: &[u8]| [&[2, 0, 0, 0, 0, 0], block, b"%%"].concat();
        let padded = frame(1, 4 | PADDED | PRIORITY, &around(&block));
        assert_eq!(followed(&[padded]), frame(1, 4 | PADDED | PRIORITY, &around(&wanted)));
        let (head, tail) = block.split_at(3);
        let (first, second) = wanted.split_at(3);
        assert_eq!(
            followed(&[frame(1, 0, head), frame(9, 4, tail)]),
            [frame(1, 0, first), frame(9, 4, second)].concat()
        );
    }

    #[test]
    fn other_values_and_good_authorities_pass_untouched() {
        let long = vec![b'%'; 300];
        // 300 = 127 + 45 + 1 × 128 (RFC 7541, 5.1).
        let literal = [&[0x40, 1, b'x', 0x7f, 0x80 | 45, 1], &long[..]].concat();
        for block in [literal, authority(b"localhost:80"), authority(b"[::1]")] {
            assert_eq!(followed(&[frame(1, 4, &block)]), frame(1, 4, &block));
        }
    }

    #[test]
    fn what_is_coded_or_malformed_passes_untouched_and_never_panics() {
        let coded = [0x41, 0x82, b'%', b'%'];
        assert_eq!(followed(&[frame(1, 4, &coded)]), frame(1, 4, &coded));
        // A length without end, and every byte as every first byte.
        let endless = [&[0x40, 1, b'x', 0x7f], &[0xff; 64][..]].concat();
        assert_eq!(followed(&[frame(1, 4, &endless)]), frame(1, 4, &endless));
        for first in 0..=255_u8 {
            let _ = followed(&[frame(1, 4, &[first; 40]), vec![first; 40]]);
        }
    }
}
