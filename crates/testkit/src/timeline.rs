//! A recording as a picture: a lane per connection, its frames as marks, faults and stalls as bands, what is broken in red. One
//! self-contained `<svg>`, light or dark as its reader likes it; what a mark is, its tooltip says.

mod lane;
mod paper;
mod scale;

use std::collections::BTreeSet;

use self::lane::{Lane, Look, Mark};
use self::paper::{Paper, attribute};
use self::scale::{Scale, told};
use crate::recording::{Connection, EndingKind, Recording, excerpt};
use crate::validate::{Judgement, Place};

/// More frames make no picture; those at fault are always drawn.
const MARKS_MAX: usize = 2_000;

/// More lanes make no picture; those with a frame at fault come first.
const LANES_MAX: usize = 40;

/// More violations are in the judgement; the picture lists so many.
const LISTED_MAX: usize = 12;

const LEFT: f64 = 148.0;
const MARGIN: f64 = 20.0;
const WIDTH_MIN: f64 = 1_200.0;
const WIDTH_MAX: f64 = 6_000.0;

/// So much room is there for a moment, until the widest picture is reached.
const WIDTH_PER_MOMENT: f64 = 13.0;

const HEAD: f64 = 92.0;
const ROW: f64 = 18.0;
const RUN_ROW: f64 = 9.0;
const RADIUS: f64 = 7.5;

/// The recording as an `<svg>` element, to stand alone or inside of a page.
#[must_use]
pub fn svg(recording: &Recording, judgement: &Judgement) -> String {
    Drawing::of(recording, judgement).draw()
}

/// The recording as a page that needs nothing else.
#[must_use]
pub fn html(recording: &Recording, judgement: &Judgement) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{}</title>\n<style>:root {{ color-scheme: light dark }} body {{ margin: 0; \
         overflow-x: auto }} @media (prefers-color-scheme: dark) {{ body {{ background: #11161d }} }}</style>\n</head>\n<body>\n{}\
         </body>\n</html>\n",
        attribute(&recording.test),
        svg(recording, judgement)
    )
}

struct Drawing<'a> {
    recording: &'a Recording,
    judgement: &'a Judgement,
    at_fault: BTreeSet<Place>,
    scale: Scale,
    width: f64,
    /// Which connections are drawn, and their lanes.
    lanes: Vec<(usize, Lane)>,
    left_out: (usize, usize),
}

impl<'a> Drawing<'a> {
    fn of(recording: &'a Recording, judgement: &'a Judgement) -> Self {
        let at_fault: BTreeSet<Place> = judgement
            .violations
            .iter()
            .flat_map(|one| one.frames.iter().copied())
            .collect();
        let lanes = chosen_lanes(recording, &at_fault);
        let drawn = chosen_frames(recording, &lanes, &at_fault);
        let moments = moments(recording, &lanes, &drawn);
        let width = (moments.len() as f64 * WIDTH_PER_MOMENT + LEFT).clamp(WIDTH_MIN, WIDTH_MAX);
        let scale = Scale::of(moments, LEFT, width - MARGIN - 34.0);
        let frames: usize = recording
            .connections
            .iter()
            .map(|connection| connection.entries.len())
            .sum();
        let left_out = (recording.connections.len() - lanes.len(), frames - drawn.len());
        let lanes = lanes
            .into_iter()
            .map(|index| {
                let connection = &recording.connections[index];
                (
                    index,
                    Lane::of(index, connection, &scale, |place| drawn.contains(&place)),
                )
            })
            .collect();
        Self {
            recording,
            judgement,
            at_fault,
            scale,
            width,
            lanes,
            left_out,
        }
    }

    fn draw(&self) -> String {
        let mut paper = Paper::default();
        let mut tops = Vec::new();
        let mut bottom = HEAD
            + if self.recording.facts.faults.is_empty() {
                0.0
            } else {
                18.0
            };
        for (_, lane) in &self.lanes {
            tops.push(bottom);
            bottom += height(lane) + 10.0;
        }
        for (top, (_, lane)) in tops.iter().zip(&self.lanes) {
            paper.rect(
                "kgt-lane",
                (MARGIN / 2.0, *top),
                (self.width - MARGIN, height(lane)),
                8.0,
                None,
            );
        }
        self.head(&mut paper, bottom);
        self.bands(&mut paper, tops.first().copied().unwrap_or(HEAD), bottom);
        for (top, (index, lane)) in tops.iter().zip(&self.lanes) {
            self.lane(&mut paper, *top, *index, lane);
        }
        self.resumes(&mut paper, &tops);
        let end = self.foot(&mut paper, bottom + 14.0);
        paper.finish(self.width, end)
    }

    fn head(&self, paper: &mut Paper, bottom: f64) {
        paper.text("kgt-title", (MARGIN, 30.0), &excerpt::cut(&self.recording.test, 110));
        let frames: usize = self
            .recording
            .connections
            .iter()
            .map(|connection| connection.entries.len())
            .sum();
        let broken = self.judgement.broken();
        let (class, verdict) = if broken.is_empty() {
            ("kgt-good-text", "nothing broken".to_owned())
        } else {
            (
                "kgt-bad-text",
                format!("broken: {}", broken.into_iter().collect::<Vec<_>>().join(", ")),
            )
        };
        paper.text(class, (MARGIN, 52.0), &verdict);
        let facts = format!(
            "{} connections · {frames} frames · {} · time is stretched where much happens",
            self.recording.connections.len(),
            told(self.recording.ended_us)
        );
        let x = MARGIN + 24.0 + verdict.chars().count() as f64 * 7.2;
        paper.text("kgt-dim", (x, 52.0), &facts);
        for tick in self.scale.ticks(64.0) {
            let x = self.scale.x(tick);
            paper.line("kgt-grid", (x, HEAD - 8.0), (x, bottom));
            paper.centred("kgt-dim", (x, HEAD - 14.0), &told(tick));
        }
    }

    /// Faults and stalls of the test's own process, over all lanes; silences, on the axis.
    fn bands(&self, paper: &mut Paper, top: f64, bottom: f64) {
        for (from, to, length) in &self.scale.silences {
            let (middle, y) = (f64::midpoint(*from, *to), HEAD - 4.0);
            let path = format!("M{from:.1} {y} H{:.1} l3 -4 l4 8 l3 -4 H{to:.1}", middle - 5.0);
            paper.path(
                "kgt-silence",
                &path,
                Some(&format!("nothing happened for {}", told(*length))),
            );
            paper.centred("kgt-dim", (middle, bottom + 4.0), &format!("silence {}", told(*length)));
        }
        for stall in &self.recording.facts.stalls {
            let (from, to) = (
                self.scale.x(stall.at_us.saturating_sub(stall.late_us)),
                self.scale.x(stall.at_us),
            );
            let tooltip = format!("the test's own process stood still for {}", told(stall.late_us));
            paper.rect(
                "kgt-stall",
                (from, top),
                ((to - from).max(2.0), bottom - top),
                0.0,
                Some(&tooltip),
            );
        }
        for (nth, fault) in self.recording.facts.faults.iter().enumerate() {
            let from = self.scale.x(fault.injected_us);
            let to = self.scale.x(fault.lifted_us.unwrap_or(self.recording.ended_us));
            let tooltip = format!("fault: {}; it did something {} times", fault.what, fault.happened);
            paper.rect(
                "kgt-fault",
                (from, top),
                ((to - from).max(3.0), bottom - top),
                0.0,
                Some(&tooltip),
            );
            paper.line("kgt-fault-edge", (from, top - 6.0), (from, bottom));
            paper.line("kgt-fault-edge", (to, top - 6.0), (to, bottom));
            let free_until = self
                .recording
                .facts
                .faults
                .get(nth + 1)
                .map_or(self.width, |next| self.scale.x(next.injected_us));
            let chars = ((free_until - from) / 6.2) as usize;
            if chars >= 6 {
                paper.text(
                    "kgt-fault-text",
                    (from + 3.0, top - 6.0),
                    &excerpt::cut(&fault.what, chars.min(60)),
                );
            }
        }
    }

    fn lane(&self, paper: &mut Paper, top: f64, index: usize, lane: &Lane) {
        let connection = &self.recording.connections[index];
        let axis = axis(top, lane);
        self.label(paper, axis, index, connection);
        let first = connection
            .upgraded_us
            .or_else(|| Some(connection.entries.first()?.at_us));
        let until = self.scale.x(self.recording.open_until(connection));
        if let Some(first) = first {
            let class = if connection.upgraded_us.is_some() {
                "kgt-life"
            } else {
                "kgt-try"
            };
            paper.line(class, (self.scale.x(first), axis), (until, axis));
            self.ending(paper, axis, until, connection);
        }
        for run in &lane.runs {
            let y = axis + 12.0 + run.row as f64 * RUN_ROW;
            let size = ((run.to - run.from).max(1.0) + 2.0 * RADIUS, 5.0);
            paper.rect("kgt-run", (run.from - RADIUS, y), size, 2.5, Some(&run.run));
        }
        for jump in &lane.jumps {
            paper.line("kgt-jump", (jump.from, axis), (jump.to, axis));
            paper.centred(
                "kgt-bad-text",
                (f64::midpoint(jump.from, jump.to), axis - 6.0),
                &jump.text,
            );
        }
        for mark in &lane.marks {
            self.mark(paper, axis, lane, mark);
        }
        self.flags(paper, top, axis, lane);
    }

    fn label(&self, paper: &mut Paper, axis: f64, index: usize, connection: &Connection) {
        let users = &self.recording.facts.users;
        let user = connection
            .user
            .and_then(|user| users.get(user))
            .map_or("nobody", |user| user.label.as_str());
        paper.text(
            "kgt-strong",
            (MARGIN, axis - 2.0),
            &format!("{index} · {}", excerpt::cut(user, 12)),
        );
        let status = match (connection.status, &connection.ending) {
            (Some(101), Some(_)) | (None, Some(_)) => ending_words(connection),
            (Some(101), None) => "open to the end".to_owned(),
            (Some(status), _) => format!("refused with {status}"),
            (None, None) => "no answer".to_owned(),
        };
        paper.text("kgt-dim", (MARGIN, axis + 13.0), &status);
    }

    fn ending(&self, paper: &mut Paper, axis: f64, x: f64, connection: &Connection) {
        let path = match connection.ending.as_ref().map(|ending| &ending.how) {
            None => format!("M{x:.1} {:.1} l7 5 l-7 5", axis - 5.0),
            Some(EndingKind::ClosedByBackend { .. } | EndingKind::ClosedByTest) => {
                format!("M{x:.1} {:.1} v16", axis - 8.0)
            }
            Some(EndingKind::CutByTest | EndingKind::CutByBackend | EndingKind::Breach { .. }) => {
                format!("M{:.1} {:.1} l10 10 m0 -10 l-10 10", x - 5.0, axis - 5.0)
            }
        };
        paper.path("kgt-life", &path, Some(&ending_words(connection)));
    }

    fn mark(&self, paper: &mut Paper, axis: f64, lane: &Lane, mark: &Mark) {
        let (x, y) = centre(axis, lane, mark);
        let edge = if mark.sent { y + RADIUS } else { y - RADIUS };
        paper.line("kgt-stem", (x, axis), (x, edge));
        if self.at_fault.contains(&mark.place) {
            paper.circle("kgt-ring", (x, y), RADIUS + 4.0, None);
        }
        let class = format!("kgt-mark-{}", mark.look.class());
        if mark.sent && mark.look == Look::Sent {
            let path = format!("M{:.1} {:.1} l{RADIUS} -14 l{RADIUS} 14 z", x - RADIUS, y + RADIUS);
            paper.path(&class, &path, Some(&mark.tooltip));
        } else if mark.look == Look::Close {
            paper.rect(&class, (x - 6.0, y - 6.0), (12.0, 12.0), 2.0, Some(&mark.tooltip));
        } else {
            let radius = if mark.look == Look::Beat { 4.0 } else { RADIUS };
            paper.circle(&class, (x, y), radius, Some(&mark.tooltip));
        }
        if let Some(seq) = mark.seq.filter(|seq| *seq < 1_000) {
            paper.text("kgt-seq", (x, y + 3.2), &seq.to_string());
        }
    }

    /// A flag with its clause above each frame at which a rule first showed to be broken.
    fn flags(&self, paper: &mut Paper, top: f64, axis: f64, lane: &Lane) {
        let mut free_from = f64::MIN;
        let mut marks: Vec<&Mark> = lane
            .marks
            .iter()
            .filter(|mark| self.at_fault.contains(&mark.place))
            .collect();
        marks.sort_by(|a, b| a.x.total_cmp(&b.x));
        for mark in marks {
            let ends_here = |places: &[Place]| excerpt::ends(self.recording, places).contains(&mark.place);
            let told: Vec<_> = self
                .judgement
                .violations
                .iter()
                .filter(|one| ends_here(&one.frames))
                .collect();
            let Some(first) = told.first() else { continue };
            let (x, y) = centre(axis, lane, mark);
            paper.line("kgt-flag-stem", (x, top + 18.0), (x, y - RADIUS - 4.0));
            if x < free_from {
                continue;
            }
            let text = first.clause.id;
            let width = text.len() as f64 * 7.0 + 12.0;
            let tooltip: Vec<String> = told.iter().map(|one| one.to_string()).collect();
            paper.rect(
                "kgt-flag",
                (x - width / 2.0, top + 3.0),
                (width, 16.0),
                8.0,
                Some(&tooltip.join("\n")),
            );
            paper.text("kgt-flag-text", (x, top + 15.0), text);
            free_from = x + width + 4.0;
        }
    }

    /// From where the last event before came to where its reader asked to go on.
    fn resumes(&self, paper: &mut Paper, tops: &[f64]) {
        for (nth, (_, lane)) in self.lanes.iter().enumerate() {
            for resume in &lane.resumes {
                let (to_x, to_y) = centre(axis(tops[nth], lane), lane, &lane.marks[resume.mark]);
                let key = (resume.thread.clone(), resume.after);
                let from = self.lanes[..nth]
                    .iter()
                    .enumerate()
                    .rev()
                    .find_map(|(earlier, (_, lane))| {
                        let mark = &lane.marks[*lane.events.get(&key)?];
                        Some(centre(axis(tops[earlier], lane), lane, mark))
                    });
                if let Some((x, y)) = from {
                    let middle = f64::midpoint(y, to_y);
                    let path = format!(
                        "M{x:.1} {:.1} C{x:.1} {middle:.1} {to_x:.1} {middle:.1} {to_x:.1} {:.1}",
                        y + RADIUS,
                        to_y - RADIUS
                    );
                    paper.path("kgt-resume", &path, None);
                }
                paper.text(
                    "kgt-resume-text",
                    (to_x + 12.0, to_y + 4.0),
                    &format!("resume after {}", resume.after),
                );
            }
        }
    }

    /// What the colours mean, what is broken, what was left out; says where it ends.
    fn foot(&self, paper: &mut Paper, top: f64) -> f64 {
        let used: BTreeSet<Look> = self
            .lanes
            .iter()
            .flat_map(|(_, lane)| lane.marks.iter().map(|mark| mark.look))
            .collect();
        let mut x = MARGIN;
        for (look, class, words) in Look::ALL.iter().filter(|(look, _, _)| used.contains(look)) {
            let class = format!("kgt-mark-{class}");
            match look {
                Look::Sent => paper.path(&class, &format!("M{x:.1} {:.1} l6 -11 l6 11 z", top + 9.0), None),
                Look::Close => paper.rect(&class, (x + 1.0, top - 1.0), (10.0, 10.0), 2.0, None),
                _ => paper.circle(&class, (x + 6.0, top + 4.0), 5.5, None),
            }
            paper.text("kgt-dim", (x + 17.0, top + 8.0), words);
            x += 34.0 + words.len() as f64 * 6.0;
        }
        let mut y = top + 34.0;
        for violation in self.judgement.violations.iter().take(LISTED_MAX) {
            let size = (self.width - MARGIN, 38.0);
            paper.rect(
                "kgt-wash",
                (MARGIN / 2.0, y - 15.0),
                size,
                6.0,
                Some(violation.clause.sentence),
            );
            paper.text("kgt-bad-text", (MARGIN, y + 8.0), violation.clause.id);
            let chars = ((self.width - LEFT) / 6.4) as usize;
            paper.text(
                "",
                (90.0, y),
                &excerpt::cut(&format!("expected {}", violation.expected), chars),
            );
            let frames: Vec<String> = violation.frames.iter().take(6).map(ToString::to_string).collect();
            let came = format!("but {} [{}]", violation.came, frames.join(", "));
            paper.text("", (90.0, y + 16.0), &excerpt::cut(&came, chars));
            y += 44.0;
        }
        let more = self.judgement.violations.len().saturating_sub(LISTED_MAX);
        let (connections, frames) = self.left_out;
        for (number, what) in [(more, "violations"), (connections, "connections"), (frames, "frames")] {
            if number > 0 {
                paper.text(
                    "kgt-dim",
                    (MARGIN, y),
                    &format!("… and {number} more {what}, which are not drawn"),
                );
                y += 18.0;
            }
        }
        y
    }
}

fn chosen_lanes(recording: &Recording, at_fault: &BTreeSet<Place>) -> Vec<usize> {
    let faulty: BTreeSet<usize> = at_fault.iter().map(|place| place.connection).collect();
    let all = 0..recording.connections.len();
    let mut chosen: Vec<usize> = faulty
        .iter()
        .copied()
        .chain(all.filter(|index| !faulty.contains(index)))
        .take(LANES_MAX)
        .collect();
    chosen.sort_unstable();
    chosen
}

fn chosen_frames(recording: &Recording, lanes: &[usize], at_fault: &BTreeSet<Place>) -> BTreeSet<Place> {
    let of_lane = |connection: &usize| {
        let connection = *connection;
        (0..recording.connections[connection].entries.len()).map(move |frame| Place { connection, frame })
    };
    let on_lanes = at_fault
        .iter()
        .copied()
        .filter(|place| lanes.contains(&place.connection));
    let each = MARKS_MAX / lanes.len().max(1);
    on_lanes
        .take(MARKS_MAX)
        .chain(lanes.iter().flat_map(|lane| of_lane(lane).take(each)))
        .collect()
}

/// Every moment at which something that is drawn happened.
fn moments(recording: &Recording, lanes: &[usize], drawn: &BTreeSet<Place>) -> Vec<u64> {
    let frames = drawn
        .iter()
        .map(|place| recording.connections[place.connection].entries[place.frame].at_us);
    let ends = lanes.iter().flat_map(|lane| {
        let connection = &recording.connections[*lane];
        connection
            .upgraded_us
            .into_iter()
            .chain(connection.ending.as_ref().map(|ending| ending.at_us))
    });
    let faults = recording
        .facts
        .faults
        .iter()
        .flat_map(|fault| [Some(fault.injected_us), fault.lifted_us]);
    frames
        .chain(ends)
        .chain(faults.flatten())
        .chain([recording.ended_us])
        .collect()
}

fn ending_words(connection: &Connection) -> String {
    match connection.ending.as_ref().map(|ending| &ending.how) {
        None => "open to the end".to_owned(),
        Some(EndingKind::ClosedByBackend { code: Some(code) }) => format!("closed with {code}"),
        Some(EndingKind::ClosedByBackend { code: None }) => "closed without a code".to_owned(),
        Some(EndingKind::ClosedByTest) => "closed by the test".to_owned(),
        Some(EndingKind::CutByTest) => "cut by the test".to_owned(),
        Some(EndingKind::CutByBackend) => "cut by the backend".to_owned(),
        Some(EndingKind::Breach { reason }) => excerpt::cut(reason, 18),
    }
}

fn height(lane: &Lane) -> f64 {
    axis(0.0, lane) + 16.0 + lane.rows_of_runs as f64 * RUN_ROW + lane.rows_received as f64 * ROW + 8.0
}

/// Where the line of a lane runs.
fn axis(top: f64, lane: &Lane) -> f64 {
    top + 30.0 + lane.rows_sent as f64 * ROW
}

fn centre(axis: f64, lane: &Lane, mark: &Mark) -> (f64, f64) {
    let row = mark.row as f64;
    if mark.sent {
        (mark.x, axis - 12.0 - row * ROW)
    } else {
        (mark.x, axis + 18.0 + lane.rows_of_runs as f64 * RUN_ROW + row * ROW)
    }
}
