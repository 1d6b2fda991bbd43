//! What the demo says: sections, links of the chain with a tick, commands as one would type them.

use std::io::IsTerminal;
use std::time::Instant;

pub struct Screen {
    colour: bool,
    started: Instant,
}

impl Screen {
    pub fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, started: Instant::now() }
    }

    /// A new part of the story.
    pub fn section(&self, title: &str) {
        println!("\n{}", self.paint("1", title));
    }

    /// One link of the chain, shown to hold.
    pub fn link(&self, text: &str) {
        let at = format!("{:5.1}s", self.started.elapsed().as_secs_f32());
        println!("  {} {} {text}", self.paint("2", &at), self.paint("32", "ok"));
    }

    /// Something that was refused, as it should be.
    pub fn refusal(&self, text: &str) {
        let at = format!("{:5.1}s", self.started.elapsed().as_secs_f32());
        println!("  {} {} {text}", self.paint("2", &at), self.paint("31", "no"));
    }

    pub fn command(&self, text: &str) {
        println!("        {}", self.paint("2", &format!("$ {text}")));
    }

    /// Output of a command, indented.
    pub fn output(&self, text: &str) {
        for line in text.lines() {
            println!("        {line}");
        }
    }

    pub fn line(&self, text: &str) {
        println!("  {text}");
    }

    pub fn note(&self, text: &str) {
        println!("\n{text}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
