//! A fault at every single call, of the store and of the kernel.

use super::*;

/// Runs a scenario with a fault at call 0, 1, … until one goes by without; returns how many calls that takes.
async fn at_every_call(for_good: bool, effect: bool, scenario: impl AsyncFn(World, Faults) -> bool) -> i64 {
    for calls in 0..200 {
        if scenario(World::new().await, Faults::after(calls, for_good, effect)).await {
            return calls;
        }
    }
    panic!("no run without fault");
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_dies_anywhere_is_repeated_or_taken_back() {
    for effect in [false, true] {
        for wanted in [request("c1"), pod("c1")] {
            let calls = at_every_call(true, effect, async |world, faults| {
                let done = world.agent(&faults).attach(wanted.clone()).await.is_ok();
                let answer = world.agent(&Faults::none()).attach(wanted.clone()).await;
                // A new process knows what is applied only once it was told; its data plane has not seen this endpoint.
                if let Err(error) = answer {
                    assert!(matches!(error, WorkloadError::NotApplied { .. }), "{}", error.chain());
                }
                let (used, links) = world.state().await;
                assert_eq!((used.len(), links), (1, vec!["c1/eth0".to_owned()]));
                done
            })
            .await;
            assert!(calls >= 10, "{calls}");
            at_every_call(true, effect, async |world, faults| {
                let done = world.agent(&faults).attach(wanted.clone()).await.is_ok();
                world.agent(&Faults::none()).detach(of(&wanted)).await.unwrap();
                assert_eq!(world.state().await, (BTreeMap::new(), Vec::new()));
                done
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attach_with_one_fault_undoes_itself() {
    at_every_call(false, false, async |world, faults| {
        let result = world.agent(&faults).attach(request("c1")).await;
        let (used, links) = world.state().await;
        match &result {
            Ok(answer) => assert_eq!(used.keys().copied().collect::<Vec<_>>(), [answer.addresses[0].ip()]),
            Err(error) => {
                assert_eq!((used.len(), links.len()), (0, 0), "{}", error.chain());
            }
        }
        result.is_ok()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_detach_that_dies_anywhere_is_repeated() {
    for effect in [false, true] {
        let calls = at_every_call(true, effect, async |world, faults| {
            world.agent(&Faults::none()).attach(request("c1")).await.unwrap();
            let done = world.agent(&faults).detach(of(&request("c1"))).await.is_ok();
            world.agent(&Faults::none()).detach(of(&request("c1"))).await.unwrap();
            assert_eq!(world.state().await, (BTreeMap::new(), Vec::new()));
            done
        })
        .await;
        assert!(calls >= 6, "{calls}");
    }
}
