//! Many threads at once. For each job there must be an order of its calls in which every result is right.
//! Each call takes effect between its begin and its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chainrule::dispatch::Dispatch;
use chainrule::job::{JobId, JobState};

use super::DATABASES;
use super::history::{Event, Told, after, explain, linearize};
use super::traffic::{Record, traffic};

const THREADS: usize = 6;
const CALLS: usize = 100;

/// When an attempt was certainly running: from the end of its claim to the beginning of the call that ended
/// it.
struct Ran {
    attempt: u32,
    from: u64,
    to: u64,
}

/// What an order of the calls implies for a job.
struct Course {
    state: Option<JobState>,
    ran: Vec<Ran>,
}

fn course(events: &[Event], order: &[usize]) -> Course {
    let mut job = None;
    let mut ran: Vec<Ran> = Vec::new();
    for event in order.iter().map(|&place| events[place]) {
        let was_running = job.is_some_and(|job: super::history::OneJob| job.state == JobState::Running);
        job = after(job, event.told).expect("an order that explains every answer");
        let is_running = job.is_some_and(|job| job.state == JobState::Running);
        match (was_running, is_running, job) {
            (false, true, Some(job)) => ran.push(Ran { attempt: job.attempt, from: event.end, to: u64::MAX }),
            (true, false, _) => ran.last_mut().expect("a claim").to = event.begin,
            _ => {}
        }
    }
    Course { state: job.map(|job| job.state), ran }
}

/// The calls about a job, and an order of them that explains every result.
type Explained = (Vec<Event>, Vec<usize>);

/// Returns an order for every job, or an error if the calls about one job have none.
pub(super) fn courses(record: &Record) -> Result<BTreeMap<JobId, Explained>, String> {
    let histories = record.histories();
    let order = |(id, events): (JobId, Vec<Event>)| match linearize(&events) {
        Ok(order) => Ok((id, (events, order))),
        Err(longest) => Err(format!("job {id}: {}", explain(&events, &longest))),
    };
    histories.into_iter().map(order).collect()
}

/// Asserts that two jobs of one model never ran at the same time.
fn assert_one_of_a_model_runs(record: &Record, courses: &BTreeMap<JobId, Course>) {
    for (_, _, held) in &record.looks {
        let mut running = BTreeSet::new();
        for held in held {
            let model = record.models.get(&held.claim.id).expect("a job of this test");
            assert!(running.insert(model), "two jobs of {model} run: {held:?}");
        }
    }
    let mut spans: BTreeMap<&str, Vec<(u64, u64, JobId, u32)>> = BTreeMap::new();
    for (id, course) in courses {
        let spans = spans.entry(&record.models[id]).or_default();
        spans.extend(
            course.ran.iter().filter(|ran| ran.from < ran.to).map(|ran| (ran.from, ran.to, *id, ran.attempt)),
        );
    }
    for (model, mut spans) in spans {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two jobs of {model} run: {pair:?}");
        }
    }
}

/// Asserts that each success published one version, that the versions of a model are 1, 2, 3 …, and that
/// later successes have higher versions.
async fn assert_versions(record: &Record, histories: &BTreeMap<JobId, Vec<Event>>, dispatch: &Dispatch) {
    let mut published: HashMap<&str, Vec<(u32, JobId, Event)>> = HashMap::new();
    for (id, events) in histories {
        for event in events {
            if let Told::Succeeded { version: Some(version), .. } = event.told {
                published.entry(&record.models[id]).or_default().push((version, *id, *event));
            }
        }
    }
    let models = dispatch.store().models().await.expect("rows");
    for (model, mut versions) in published.clone() {
        versions.sort_unstable_by_key(|(version, ..)| *version);
        let numbers: Vec<u32> = versions.iter().map(|(version, ..)| *version).collect();
        assert_eq!(numbers, (1..=versions.len() as u32).collect::<Vec<_>>(), "{model}");
        for pair in versions.windows(2) {
            assert!(
                pair[0].2.begin < pair[1].2.end,
                "{model}: a later success has a lower version: {pair:?}"
            );
        }
        let rows = models.versions.iter().filter(|row| row.name == model);
        let rows: Vec<_> = rows.map(|row| (row.row.version, row.row.job_id)).collect();
        assert_eq!(rows, versions.iter().map(|(version, id, _)| (*version, Some(*id))).collect::<Vec<_>>());
    }
    assert_eq!(models.versions.len(), published.values().map(Vec::len).sum::<usize>());
}

async fn check(processes: &[Dispatch], seed: u64) {
    let record = traffic(processes, CALLS, seed, true).await;
    let found = courses(&record).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    let histories = found.iter().map(|(id, (events, _))| (*id, events.clone())).collect();
    let courses: BTreeMap<JobId, Course> =
        found.iter().map(|(id, (events, order))| (*id, course(events, order))).collect();
    assert_one_of_a_model_runs(&record, &courses);
    assert_versions(&record, &histories, &processes[0]).await;
    for (state, count) in processes[0].store().counts().await.expect("rows") {
        let expected = courses.values().filter(|course| course.state == Some(state)).count() as u64;
        assert_eq!(count, expected, "seed {seed}: {state}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_of_many_threads_have_an_order_that_explains_them() {
    for (make_rows, seed) in
        DATABASES.into_iter().flat_map(|make_rows| (1..=4).map(move |seed| (make_rows, seed)))
    {
        let rows = make_rows();
        let dispatch = rows.open().await;
        check(&vec![dispatch.clone(); THREADS], seed).await;
        dispatch.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_have_those_of_two_processes_on_the_same_rows() {
    for (make_rows, seed) in
        DATABASES.into_iter().flat_map(|make_rows| (11..=14).map(move |seed| (make_rows, seed)))
    {
        let rows = make_rows();
        let processes = [rows.open().await, rows.open().await];
        check(&processes.iter().cycle().take(THREADS).cloned().collect::<Vec<_>>(), seed).await;
        for dispatch in &processes {
            dispatch.close().await;
        }
    }
}
