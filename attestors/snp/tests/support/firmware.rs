//! An OVMF image of the tests' own: no code, but a table of GUIDs and metadata as OVMF has them.

#![allow(dead_code)] // each test uses what it needs

pub struct Image {
    /// Place, size and type of each section.
    pub sections: Vec<(u32, u32, u32)>,
    /// Name and data of each entry of the table, in the order of the image.
    pub entries: Vec<(&'static str, Vec<u8>)>,
    pub size: usize,
}

pub const RESET: &str = "00f771de-1a7e-4fcb-890e-68c77e2fb44e";
pub const HASHES: &str = "7255371f-3a3b-4b04-927b-1da6efa8d454";
pub const METADATA: &str = "dc886566-984a-4798-a75e-5585a7bf67cc";
const FOOTER: &str = "96b582de-1fb2-45f7-baea-a366c55a082d";
/// Where the metadata stands, counted from the end.
const METADATA_FROM_END: usize = 0x800;

impl Image {
    pub fn new() -> Image {
        Image {
            sections: vec![
                (0x80_0000, 0x9000, 1),
                (0x80_a000, 0x3000, 1),
                (0x80_d000, 0x1000, 2),
                (0x80_e000, 0x1000, 3),
                (0x80_f000, 0x1000, 4),
                (0x81_0000, 0x1000, 0x10),
            ],
            entries: vec![
                (HASHES, [0x81_0c00_u32.to_le_bytes(), 0x400_u32.to_le_bytes()].concat()),
                (RESET, 0x0080_b004_u32.to_le_bytes().to_vec()),
                (METADATA, (METADATA_FROM_END as u32).to_le_bytes().to_vec()),
            ],
            size: 0x8000,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Image)) -> Image {
        change(&mut self);
        self
    }

    pub fn write(&self) -> Vec<u8> {
        let mut image: Vec<u8> = (0..self.size).map(|at| (at % 251) as u8).collect();
        let mut metadata = b"ASEV".to_vec();
        let count = self.sections.len() as u32;
        for number in [16 + 12 * count, 1, count] {
            metadata.extend(number.to_le_bytes());
        }
        for (place, size, kind) in &self.sections {
            for number in [place, size, kind] {
                metadata.extend(number.to_le_bytes());
            }
        }
        let start = self.size - METADATA_FROM_END;
        image[start..start + metadata.len()].copy_from_slice(&metadata);

        let mut table = Vec::new();
        for (name, data) in &self.entries {
            table.extend(data);
            table.extend((data.len() as u16 + 18).to_le_bytes());
            table.extend(guid(name));
        }
        table.extend((table.len() as u16 + 18).to_le_bytes());
        table.extend(guid(FOOTER));
        let end = self.size - 32;
        image[end - table.len()..end].copy_from_slice(&table);
        image
    }
}

/// As EFI stores it.
fn guid(text: &str) -> Vec<u8> {
    let mut bytes = hex::decode(text.replace('-', "")).unwrap();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}
