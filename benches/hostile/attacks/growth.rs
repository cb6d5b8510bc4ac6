//! Attacks on everything that grows with use or can be requested repeatedly.

use tokio::task::JoinSet;

use crate::attack::{Attack, Kind, Scene, Target, ask_again, attacker, hammer, hammer_from};
use crate::outcome::Outcome;
use crate::wire::{get, request};

/// How many aliases one model is given.
const ALIASES: usize = 2_000;

pub fn attacks() -> Vec<Attack> {
    let attack = |name, what, defence, scene, expected, run| Attack {
        name,
        what,
        defence,
        kind: Kind::Starvation,
        scene,
        expected,
        seconds_min: 0,
        run,
    };
    vec![
        attack(
            "readyz",
            "16 clients ask `/readyz` repeatedly",
            "one probe of the disk per second is shared",
            Scene::Models,
            &[200, 503],
            |target| Box::pin(hammer(target, 16, vec![get("/readyz")])),
        ),
        attack(
            "lists",
            "16 clients list jobs by state and model, from 20,000 of them",
            "an index for each filter; pages of at most 200",
            Scene::ManyJobs,
            &[200, 429, 503],
            |target| {
                let paths = [
                    "/v1/jobs?state=failed&limit=200",
                    "/v1/jobs?state=failed&model=wide&limit=200",
                    "/v1/jobs?state=succeeded&model=none&limit=200",
                    "/v1/jobs?model=wide&limit=200",
                ];
                Box::pin(hammer(target, 16, paths.iter().map(|path| get(path)).collect()))
            },
        ),
        attack(
            "course",
            "four connections from one address read an epoch and the findings of a job of 3,000 epochs and 63 layers",
            "pages are read and written at the priority of long work",
            Scene::LongJob,
            &[200, 503],
            |target| Box::pin(course(target)),
        ),
        attack(
            "aliases",
            "eight clients put 2,000 aliases of one model",
            "the aliases of a model are limited",
            Scene::Models,
            &[200, 409, 422, 429, 503, 507],
            |target| Box::pin(aliases(target)),
        ),
    ]
}

async fn course(target: Target) {
    let Some(job) = target.job.clone() else { return };
    let page = get(&format!("/v1/jobs/{job}/metrics?limit=1"));
    hammer_from(target, 4, 1, vec![page]).await;
}

async fn aliases(target: Target) {
    const CLIENTS: usize = 8;
    let mut attackers = JoinSet::new();
    for client in 0..CLIENTS {
        let target = target.clone();
        attackers.spawn(async move {
            let mut kept = None;
            for alias in (client..ALIASES).step_by(CLIENTS) {
                if target.is_over() {
                    return;
                }
                let path = format!("/v1/models/digits/aliases/a{alias}");
                let headers = [("Content-Type", "application/json")];
                let message = request("PUT", &path, &headers, b"{\"version\":1}");
                let asked = target.within(ask_again(&target, &mut kept, attacker(client, 1), &message));
                let outcome = asked.await.unwrap_or(Outcome::Open);
                target.count(outcome);
            }
        });
    }
    attackers.join_all().await;
}
