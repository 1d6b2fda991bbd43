//! The state in which a processor of the guest begins, as QEMU with KVM measures it: the save area
//! of an SEV-ES guest (AMD64 Architecture Programmer's Manual, volume 2, table B-4).

use super::PAGE;

/// Where the first processor begins.
pub(super) const RESET_VECTOR: u32 = 0xffff_fff0;

pub(super) fn page(entry: u32, cpu_signature: u32, guest_features: u64) -> Vec<u8> {
    let data = segment(0, 0x93, 0);
    let fields: [(usize, Vec<u8>); 24] = [
        (0x000, data.clone()),                                   // ES
        (0x010, segment(0xf000, 0x9b, entry & 0xffff_0000)),     // CS
        (0x020, data.clone()),                                   // SS
        (0x030, data.clone()),                                   // DS
        (0x040, data.clone()),                                   // FS
        (0x050, data),                                           // GS
        (0x060, segment(0, 0, 0)),                               // GDTR
        (0x070, segment(0, 0x82, 0)),                            // LDTR
        (0x080, segment(0, 0, 0)),                               // IDTR
        (0x090, segment(0, 0x8b, 0)),                            // TR
        (0x0d0, 0x1000_u64.to_le_bytes().into()),                // EFER: SVME
        (0x148, 0x40_u64.to_le_bytes().into()),                  // CR4: MCE
        (0x158, 0x10_u64.to_le_bytes().into()),                  // CR0: ET
        (0x160, 0x400_u64.to_le_bytes().into()),                 // DR7
        (0x168, 0xffff_0ff0_u64.to_le_bytes().into()),           // DR6
        (0x170, 0x2_u64.to_le_bytes().into()),                   // RFLAGS
        (0x178, u64::from(entry & 0xffff).to_le_bytes().into()), // RIP
        (0x268, 0x0007_0406_0007_0406_u64.to_le_bytes().into()), // PAT
        (0x310, u64::from(cpu_signature).to_le_bytes().into()),  // RDX
        (0x3b0, guest_features.to_le_bytes().into()),            // SEV_FEATURES
        (0x3e8, 1_u64.to_le_bytes().into()),                     // XCR0
        (0x408, 0x1f80_u32.to_le_bytes().into()),                // MXCSR
        (0x410, 0x037f_u16.to_le_bytes().into()),                // x87 control word
        (0xfff, vec![0]),
    ];
    let mut page = Vec::with_capacity(PAGE);
    for (place, bytes) in fields {
        page.resize(place, 0);
        page.extend(bytes);
    }
    page
}

/// Selector, attributes, limit (64 KiB everywhere), base.
fn segment(selector: u16, attributes: u16, base: u32) -> Vec<u8> {
    [
        &selector.to_le_bytes()[..],
        &attributes.to_le_bytes(),
        &0xffff_u32.to_le_bytes(),
        &u64::from(base).to_le_bytes(),
    ]
    .concat()
}
