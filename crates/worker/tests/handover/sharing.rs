//! New connections are shared among the workers.

use super::world::{Client, World};

/// The share of the busiest worker, in percent, with a word about all.
fn check_shares(shares: &[u64], most: u64) {
    let total: u64 = shares.iter().sum();
    let busiest = shares.iter().max().unwrap();
    assert!(busiest * 100 <= total * most, "{shares:?}");
}

fn accepted(world: &World) -> Vec<u64> {
    world.hosts.iter().map(|host| host.worker.counters().accepted).collect()
}

#[test]
fn a_quick_worker_leaves_connections_to_the_others() {
    for workers in [2u64, 8] {
        let mut world = World::new(usize::try_from(workers).unwrap(), |_| ());
        let mut clients = Vec::new();
        for round in 0..50 {
            clients.extend((0..20).map(|_| Client::connect(world.http())));
            world.run(|world| {
                // The first gets three turns for each of the others'.
                (0..2).for_each(|_| world.turn(0));
                world.connections().iter().sum::<usize>() == (round + 1) * 20
            });
        }
        check_shares(&accepted(&world), 100 / workers + 10);
        for client in &mut clients {
            client.get("/");
        }
        world.run(|_| clients.iter_mut().all(Client::is_satisfied));
    }
}

#[test]
fn a_worker_that_does_not_come_keeps_nobody_waiting() {
    let mut world = World::new(2, |_| ());
    // Both have said that they accept; then one is gone for good.
    (0..2).for_each(|at| world.turn(at));
    let began = std::time::Instant::now();
    for _ in 0..5 {
        let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(world.http())).collect();
        for client in &mut clients {
            client.get("/");
        }
        while !clients.iter_mut().all(Client::is_satisfied) {
            assert!(began.elapsed().as_secs() < 20, "{}", world.report());
            world.turn(0);
        }
    }
    assert_eq!(accepted(&world), [500, 0]);
}

#[test]
fn connections_of_a_worker_that_leaves_are_shared_by_those_that_stay() {
    let mut world = World::new(1, |_| ());
    let mut clients = Vec::new();
    for round in 1..5 {
        clients.extend((0..100).map(|_| Client::connect(world.http())));
        world.run(|world| world.connections() == [round * 100]);
    }
    world.add();
    world.add();
    world.retire(0);
    world.run(|world| world.connections().iter().sum::<usize>() == 400);
    let taken: Vec<u64> = world.hosts[1..].iter().map(|host| host.worker.counters().taken).collect();
    check_shares(&taken, 60);
    for client in &mut clients {
        client.get("/");
    }
    world.run(|_| clients.iter_mut().all(Client::is_satisfied));
}
