//! The grammar of a register: which classes of events it may hold, in which order.
//!
//! A rule is a row of `name`, `name?`, `name*`, `name+` and `name{n}`; it accepts a register when
//! every event is consumed by exactly one item and every item has what it asks for. There is no
//! item for "anything": an event that no item names is a failure, never skipped.
//!
//! Classes are names here and nothing more. What an event's class is, the log's parser says.

use std::fmt;

/// Longest rule: real registers have up to some hundred events of few classes.
const MAX_ITEMS: usize = 512;
/// Real registers hold some hundred events; the walk's table is as large as items × events.
const MAX_EVENTS: usize = 4_096;
const MAX_COUNT: u32 = 4_096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub class: String,
    pub least: u32,
    /// No limit if absent.
    pub most: Option<u32>,
}

/// Where a row of events leaves the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Index, among the register's events, of the first that no item consumes; the number of
    /// events if something is missing at the end.
    pub at: usize,
    /// What would have been consumed there; empty where only the end was allowed.
    pub expected: Vec<String>,
}

impl Rule {
    /// An empty text is the rule of a register without events.
    pub fn parse(text: &str) -> Result<Self, String> {
        let items: Vec<Item> =
            text.split_whitespace().map(Item::parse).collect::<Result<_, _>>()?;
        if items.len() > MAX_ITEMS {
            return Err(format!("a rule has at most {MAX_ITEMS} items, found {}", items.len()));
        }
        Ok(Self { items })
    }

    /// The shortest exact rule for a row of classes: each in its place, in its number.
    pub fn exact<'a>(classes: impl IntoIterator<Item = &'a str>) -> Self {
        let mut items: Vec<Item> = Vec::new();
        for class in classes {
            match items.last_mut() {
                Some(last) if last.class == class => {
                    last.least = last.least.saturating_add(1);
                    last.most = Some(last.least);
                }
                _ => items.push(Item { class: class.to_owned(), least: 1, most: Some(1) }),
            }
        }
        Self { items }
    }

    /// A rule that accepts what both accept: items of the longest common row keep their place, with
    /// their number widened where it differs; all others become optional.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let (a, b) = (&self.items, &other.items);
        // common[i][j]: length of the longest common row of a[i..] and b[j..]
        let mut common = vec![vec![0_usize; b.len().saturating_add(1)]; a.len().saturating_add(1)];
        let at = |common: &[Vec<usize>], i: usize, j: usize| {
            common.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0)
        };
        for (i, x) in a.iter().enumerate().rev() {
            for (j, y) in b.iter().enumerate().rev() {
                let longest = match x.class == y.class {
                    true => at(&common, i + 1, j + 1).saturating_add(1),
                    false => at(&common, i + 1, j).max(at(&common, i, j + 1)),
                };
                if let Some(place) = common.get_mut(i).and_then(|row| row.get_mut(j)) {
                    *place = longest;
                }
            }
        }
        let mut items = Vec::new();
        let (mut i, mut j) = (0, 0);
        loop {
            match (a.get(i), b.get(j)) {
                (None, None) => return Self { items },
                (Some(x), Some(y)) if x.class == y.class => {
                    items.push(x.widened(y));
                    (i, j) = (i + 1, j + 1);
                }
                (Some(x), y) if y.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) => {
                    items.push(x.optional());
                    i += 1;
                }
                (_, Some(y)) => {
                    items.push(y.optional());
                    j += 1;
                }
                (Some(_), None) => return Self { items },
            }
        }
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }

    pub fn names(&self, class: &str) -> bool {
        self.items.iter().any(|item| item.class == class)
    }

    /// For each event the item that consumes it. Items are as greedy as the rest allows, so that
    /// there is one reading only.
    pub fn consume(&self, classes: &[&str]) -> Result<Vec<usize>, Stuck> {
        let mut stuck = Stuck { at: 0, expected: Vec::new() };
        if classes.len() > MAX_EVENTS {
            return Err(stuck);
        }
        let mut dead = vec![false; (self.items.len() + 1).saturating_mul(classes.len() + 1)];
        let mut assigned = vec![0; classes.len()];
        if self.walk(0, 0, classes, &mut assigned, &mut dead, &mut stuck) {
            Ok(assigned)
        } else {
            stuck.expected.sort_unstable();
            stuck.expected.dedup();
            Err(stuck)
        }
    }

    /// Depth is bounded by the number of items; `dead` makes the whole walk at most
    /// items × events² steps.
    fn walk(
        &self,
        item: usize,
        event: usize,
        classes: &[&str],
        assigned: &mut [usize],
        dead: &mut [bool],
        stuck: &mut Stuck,
    ) -> bool {
        let Some(rule) = self.items.get(item) else {
            if event == classes.len() {
                return true;
            }
            stuck.note(event, None);
            return false;
        };
        let place = item.saturating_mul(classes.len() + 1).saturating_add(event);
        if dead.get(place).copied().unwrap_or(true) {
            return false;
        }
        let rest = classes.get(event..).unwrap_or(&[]);
        let run = rest.iter().take_while(|class| **class == rule.class).count();
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let most = rule.most.map_or(run, |most| run.min(count(most)));
        let least = count(rule.least);
        if most < least {
            stuck.note(event.saturating_add(run), Some(&rule.class));
        } else {
            if rule.most.is_none_or(|most| run < count(most)) {
                stuck.note(event.saturating_add(run), Some(&rule.class));
            }
            for taken in (least..=most).rev() {
                let end = event.saturating_add(taken);
                if self.walk(item + 1, end, classes, assigned, dead, stuck) {
                    if let Some(taken) = assigned.get_mut(event..end) {
                        taken.fill(item);
                    }
                    return true;
                }
            }
        }
        if let Some(dead) = dead.get_mut(place) {
            *dead = true;
        }
        false
    }
}

impl Stuck {
    /// Keeps the farthest place, and all that would have gone on from there.
    fn note(&mut self, at: usize, class: Option<&str>) {
        if at > self.at {
            self.at = at;
            self.expected.clear();
        }
        if at == self.at {
            self.expected.extend(class.map(str::to_owned));
        }
    }
}

impl Item {
    fn widened(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let class = self.class.clone();
        let least = self.least.min(other.least).min(1);
        let one = |item: &Self| item.most == Some(1);
        Self { class, least, most: (one(self) && one(other)).then_some(1) }
    }

    fn optional(&self) -> Self {
        let class = self.class.clone();
        Self { class, least: 0, most: self.most.filter(|most| *most == 1) }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!("`{text}` is no item of a rule: `name`, `name?`, `name*`, `name+`, `name{{3}}`")
        };
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let (class, repeat) = text.split_at(end.unwrap_or(text.len()));
        let (least, most) = match repeat {
            "" => (1, Some(1)),
            "?" => (0, Some(1)),
            "*" => (0, None),
            "+" => (1, None),
            _ => {
                let count = repeat.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                let count = count.and_then(|count| count.parse::<u32>().ok());
                let count = count.filter(|count| (1..=MAX_COUNT).contains(count));
                let count = count.ok_or_else(refused)?;
                (count, Some(count))
            }
        };
        if class.is_empty() {
            return Err(refused());
        }
        Ok(Self { class: class.to_owned(), least, most })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.class)?;
        match (self.least, self.most) {
            (1, Some(1)) => Ok(()),
            (0, Some(_)) => f.write_str("?"),
            (0, None) => f.write_str("*"),
            (_, None) => f.write_str("+"),
            (count, Some(_)) => write!(f, "{{{count}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn consume(rule: &str, events: &str) -> Result<Vec<usize>, Stuck> {
        let classes: Vec<&str> = events.split_whitespace().collect();
        Rule::parse(rule).unwrap().consume(&classes)
    }

    #[test]
    fn every_event_is_consumed_by_exactly_one_item() {
        let rule = "locality? crtm* blob+ nonhost? separator";
        assert_eq!(consume(rule, "crtm blob blob separator").unwrap(), [1, 2, 2, 4]);
        assert_eq!(consume(rule, "blob separator").unwrap(), [2, 4]);
        let stuck = |events| consume(rule, events).unwrap_err();
        assert_eq!(stuck("crtm separator").expected, ["blob", "crtm"]);
        assert_eq!(stuck("blob separator separator"), Stuck { at: 2, expected: vec![] });
        assert_eq!(stuck("blob").at, 1);
        assert_eq!(stuck("other blob separator").at, 0);
    }

    #[test]
    fn a_greedy_item_gives_back_what_the_next_one_needs() {
        assert_eq!(consume("a* a", "a a a").unwrap(), [0, 0, 1]);
        assert_eq!(consume("a+ a? a{2}", "a a a").unwrap(), [0, 2, 2]);
        assert!(consume("a+ a{3}", "a a a").is_err());
    }

    #[test]
    fn the_empty_rule_is_a_register_without_events() {
        assert!(consume("", "").unwrap().is_empty());
        assert_eq!(consume("", "a").unwrap_err(), Stuck { at: 0, expected: vec![] });
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in ["", "a b? c* d+ e{7} f{2}", "SecureBoot db-x x_1"] {
            assert_eq!(Rule::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Rule::exact(["a", "a", "a", "b"]).to_string(), "a{3} b");
    }

    #[test]
    fn what_is_no_item_is_refused_by_name() {
        for text in ["a??", "?", "a{0}", "a{}", "a{99999999}", "a|b", "(a)", "a{2", "."] {
            assert!(Rule::parse(text).unwrap_err().contains(text), "{text}");
        }
        assert!(Rule::parse(&"a ".repeat(513)).is_err());
    }

    #[test]
    fn merging_widens_no_more_than_both_need() {
        let merged = |a, b| Rule::parse(a).unwrap().merged(&Rule::parse(b).unwrap()).to_string();
        assert_eq!(merged("a b{2}", "a b{5}"), "a b+");
        assert_eq!(merged("a b c", "a c"), "a b? c");
        assert_eq!(merged("a{3} c", "d c"), "a* d? c");
        assert_eq!(merged("", "a"), "a?");
        assert_eq!(merged("a b", "a b"), "a b");
        assert_eq!(merged("a? b", "a b"), "a? b");
    }

    #[test]
    fn many_hungry_items_take_polynomial_time() {
        let rule = "a* ".repeat(400) + "b";
        let events = "a ".repeat(400);
        assert_eq!(consume(&rule, &events).unwrap_err().at, 400);
    }

    proptest! {
        /// The exact rule of a row accepts that row, and no other permutation, removal or addition.
        #[test]
        fn the_exact_rule_accepts_its_row_alone(
            row in prop::collection::vec(0usize..4, 0..12),
            other in prop::collection::vec(0usize..4, 0..12),
        ) {
            let names = ["a", "b", "c", "d"];
            let row: Vec<&str> = row.into_iter().map(|n| names[n]).collect();
            let other: Vec<&str> = other.into_iter().map(|n| names[n]).collect();
            let rule = Rule::exact(row.iter().copied());
            prop_assert!(rule.consume(&row).is_ok());
            prop_assert_eq!(rule.consume(&other).is_ok(), row == other);
            prop_assert_eq!(Rule::parse(&rule.to_string()).unwrap(), rule);
        }

        #[test]
        fn a_merged_rule_accepts_both(
            a in prop::collection::vec(0usize..3, 0..8),
            b in prop::collection::vec(0usize..3, 0..8),
        ) {
            let names = ["a", "b", "c"];
            let row = |row: Vec<usize>| row.into_iter().map(|n| names[n]).collect::<Vec<_>>();
            let (a, b) = (row(a), row(b));
            let merged = Rule::exact(a.iter().copied()).merged(&Rule::exact(b.iter().copied()));
            prop_assert!(merged.consume(&a).is_ok(), "{merged}");
            prop_assert!(merged.consume(&b).is_ok(), "{merged}");
        }

        #[test]
        fn no_text_makes_the_parser_fall(text in "\\PC{0,40}") {
            let _ = Rule::parse(&text);
        }
    }
}
