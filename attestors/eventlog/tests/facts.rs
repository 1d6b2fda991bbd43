//! Facts of real machines: what their logs really bind, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod corpus;

use assay_eventlog::Grading;

#[test]
fn dump() {
    for case in corpus::cases().iter().chain(&corpus::captures()) {
        let Ok(log) = case.log() else { continue };
        let cmdline = std::fs::read(case.folder.join("cmdline.txt")).unwrap_or_default();
        let preimages = [&cmdline[..]];
        let grades = log.grade(&Grading { preimages: &preimages, ..Grading::INSPECT });
        let facts = log.facts(&grades, &preimages);
        println!("== {}", case.name);
        for (name, fact) in facts.iter() {
            let json = serde_json::to_string(fact.value()).unwrap();
            println!("   {name} {:?} {}", fact.events().len(), &json[..json.len().min(330)]);
        }
    }
}
