import { expect, type Person, test } from "./support/app";
import { Cluster } from "./support/cluster";
import { Socket } from "./support/socket";

/** All that is said in a test is drawn at once. */
const TALL = { viewport: { width: 1280, height: 1800 } };
const ROUNDS = 10;

/** Writes down from now on how a page says that it stands with the server. */
async function standings(person: Person): Promise<() => Promise<string[]>> {
  await person.page.evaluate(() => {
    const shell = document.querySelector<HTMLElement>(".shell");
    const seen = [shell?.dataset.connection];
    Object.assign(window, { standings: seen });
    new MutationObserver(() => seen.push(shell?.dataset.connection)).observe(shell as HTMLElement, { attributeFilter: ["data-connection"] });
  });
  return () => person.page.evaluate(() => (window as unknown as { standings: string[] }).standings);
}

test("two people talk through a load balancer, the node of one is killed, and both have everything once and in one order", async ({ strict, person, name }) => {
  test.setTimeout(180_000);
  strict.expectUnreachable();
  const cluster = await Cluster.start();
  try {
    const [a, b] = [await cluster.register(name("alice")), await cluster.register(name("bob"))];
    const socket = await Socket.open(cluster, a);
    await socket.create("group", [b], "Storm");
    socket.close();
    await expect.poll(() => cluster.sockets()).toEqual([0, 0, 0]);
    const alice = await person(a, { server: cluster, ...TALL });
    const hers = (await cluster.sockets()).indexOf(1);
    const bob = await person(b, { server: cluster, ...TALL });
    // The balancer gives him the node with the fewest; while a page loads that may be hers.
    while ((await cluster.sockets())[hers] !== 1) await bob.goTo("/");
    await Promise.all([alice.open("Storm"), bob.open("Storm")]);
    await alice.say("calm");
    await expect(bob.message("calm")).toBeVisible();

    const [seenByAlice, seenByBob] = [await standings(alice), await standings(bob)];
    // Seen for a moment only, and perhaps while the next words are typed.
    const back = alice.page.locator(".connection.good").waitFor({ timeout: 60_000 });
    // If another step fails first, the cluster is still to be stopped in peace.
    back.catch(() => undefined);
    let killed = Promise.resolve();
    for (let i = 1; i <= ROUNDS; i++) {
      if (i === 4) killed = cluster.kill(hers + 1);
      await Promise.all([alice.say(`a${i}`), bob.say(`b${i}`)]);
    }
    await killed;
    const wanted = ["calm", ...Array.from({ length: ROUNDS }, (_, i) => [`a${i + 1}`, `b${i + 1}`]).flat()];
    await expect.poll(async () => (await alice.texts()).sort(), { timeout: 30_000 }).toEqual([...wanted].sort());
    const all = await alice.texts();
    await expect.poll(() => bob.texts()).toEqual(all);
    for (const who of ["a", "b"]) {
      expect(all.filter((t) => t.startsWith(who)), "one's own messages keep their order").toEqual(wanted.filter((t) => t.startsWith(who)));
    }
    await back;
    await expect(alice.page.locator(".tick.pending, .tick.failed")).toHaveCount(0);
    expect(await seenByBob(), "his node lived").toEqual(["live"]);
    // That it reconnects is said in words only when it takes longer than a hiccup.
    const seen = await seenByAlice();
    expect(seen).toContain("offline");
    expect(seen.at(-1)).toBe("live");
    expect((await cluster.sockets())[hers], "her node is dead").toBe(0);

    await Promise.all([alice.page.reload(), bob.page.reload()]);
    for (const who of [alice, bob]) {
      await who.inside();
      await expect.poll(() => who.texts()).toEqual(all);
    }
  } finally {
    await cluster.stop();
  }
});
