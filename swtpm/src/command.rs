//! The few TPM commands the relay sends for itself, as bytes (TPM 2.0 Library Part 3), and the
//! header that all frames share. Not a TPM library: what a client sends passes through unread.

use crate::Error;
use crate::Result;

/// tag, size, command or response code (Part 1, 18.2).
pub(crate) const HEADER: usize = 10;
/// TPM2_PT_MAX_COMMAND_SIZE and _RESPONSE_SIZE of libtpms.
pub(crate) const MAX_FRAME: usize = 4096;

/// How long the frame that starts with these bytes is; none while the header is incomplete.
pub(crate) fn frame_size(bytes: &[u8]) -> Option<usize> {
    let size = bytes.get(2..6)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(size)).ok()
}

/// The response code of an answer.
pub(crate) fn response_code(answer: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(answer.get(6..10)?.try_into().ok()?))
}

/// An answer's parameters, or why there are none.
pub(crate) fn parameters<'a>(command: &'static str, answer: &'a [u8]) -> Result<&'a [u8]> {
    match response_code(answer) {
        Some(0) => answer.get(HEADER..).ok_or(Error::Malformed { command }),
        Some(found) => Err(Error::Refused { command, found }),
        None => Err(Error::Malformed { command }),
    }
}

/// TPM2_Shutdown(TPM_SU_CLEAR).
pub(crate) fn shutdown() -> Vec<u8> {
    frame(NO_SESSIONS, 0x145, &[&[0, 0]])
}

/// TPM2_DictionaryAttackLockReset with the empty lockout auth.
pub(crate) fn lockout_reset() -> Vec<u8> {
    frame(SESSIONS, 0x139, &[&RH_LOCKOUT, &EMPTY_PASSWORD])
}

/// TPM2_PCR_Event: the TPM hashes `data` for every bank it has. At most 1024 bytes.
pub(crate) fn pcr_event(index: u8, data: &[u8]) -> Result<Vec<u8>> {
    let size = u16::try_from(data.len()).ok().filter(|size| *size <= 1024);
    let size = size.ok_or(Error::Malformed { command: "PCR_Event" })?;
    let handle = [0, 0, 0, index];
    Ok(frame(SESSIONS, 0x13c, &[&handle, &EMPTY_PASSWORD, &size.to_be_bytes(), data]))
}

/// TPM2_PCR_Extend of the SHA-256 bank.
pub(crate) fn pcr_extend_sha256(index: u8, digest: &[u8; 32]) -> Vec<u8> {
    let handle = [0, 0, 0, index];
    let values = [0, 0, 0, 1, 0x00, 0x0b];
    frame(SESSIONS, 0x182, &[&handle, &EMPTY_PASSWORD, &values, digest])
}

/// TPM2_GetCapability(TPM_CAP_HANDLES) from `first` on.
pub(crate) fn handles_from(first: u32) -> Vec<u8> {
    frame(NO_SESSIONS, 0x17a, &[&[0, 0, 0, 1], &first.to_be_bytes(), &[0, 0, 0, 64]])
}

/// moreData, capability, count, handles (Part 2, 10.10.1 and 10.9.2).
pub(crate) fn parse_handles(answer: &[u8]) -> Result<Vec<u32>> {
    const COMMAND: &str = "GetCapability";
    let parameters = parameters(COMMAND, answer)?;
    let list = parameters.get(9..).ok_or(Error::Malformed { command: COMMAND })?;
    let (handles, rest) = list.as_chunks::<4>();
    match rest {
        [] => Ok(handles.iter().map(|handle| u32::from_be_bytes(*handle)).collect()),
        _ => Err(Error::Malformed { command: COMMAND }),
    }
}

/// TPM2_FlushContext.
pub(crate) fn flush(handle: u32) -> Vec<u8> {
    frame(NO_SESSIONS, 0x165, &[&handle.to_be_bytes()])
}

fn frame(tag: u16, code: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let size = u32::try_from(HEADER + body).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER + body);
    frame.extend_from_slice(&tag.to_be_bytes());
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(&code.to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// First handles of the three ranges a dead client leaves things in (Part 2, 7.2).
pub(crate) const CLIENT_RANGES: [u32; 3] = [0x8000_0000, 0x0200_0000, 0x0300_0000];

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const RH_LOCKOUT: [u8; 4] = [0x40, 0, 0, 0x0a];
/// authorizationSize 9, TPM_RS_PW, empty nonce, no attributes, empty auth.
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn frames_carry_their_own_size() {
        for frame in [shutdown(), lockout_reset(), handles_from(0x8000_0000), flush(1)] {
            assert_eq!(frame_size(&frame), Some(frame.len()));
        }
        assert_eq!(frame_size(&[0x80, 1, 0, 0]), None);
    }

    #[test]
    fn too_long_an_event_is_refused() {
        assert!(pcr_event(8, &[0; 1024]).is_ok());
        assert!(pcr_event(8, &[0; 1025]).is_err());
    }

    #[test]
    fn handle_lists_with_half_a_handle_are_refused() {
        let mut answer = vec![0x80, 1, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        answer.extend([0x80, 0, 0, 0]);
        assert_eq!(parse_handles(&answer).unwrap(), vec![0x8000_0000]);
        answer.pop();
        assert!(parse_handles(&answer).is_err());
    }
}
