import { afterEach, expect, test } from "vitest";
import { ask, cookieOf, doorScene as stage } from "../../../test/suites/door-scene.ts";
import { closeScenes } from "../../../test/suites/proxy-scene.ts";
import { FakeClock } from "../../base/clock.ts";

afterEach(closeScenes);

test("a guest who pressed the button of his link twice was shut out: the browser gave up the first answer, and the link was over", async () => {
  const clock = new FakeClock();
  const scene = await stage({ clock });
  const wish = { door: "friends", name: "Carol", lifeMs: 600_000, isOnce: true };
  const { token, link } = await scene.keeper.passes.create(wish);
  const path = `/.sallyport/door/friends/link/${token}`;
  const shown = async () => /name="page" value="([\w-]+)"/.exec((await ask(scene, path)).body)?.[1] ?? "";
  const [page, another] = [await shown(), await shown()];
  expect(another).not.toBe(page);
  const press = (form: Record<string, string> = { page }) => ask(scene, path, { form: { ...form, to: "/in" } });
  const both = await Promise.all([press(), press()]);
  expect(both.map(({ status, headers }) => [status, headers.location])).toEqual([
    [303, "/in"],
    [303, "/in"],
  ]);
  expect(scene.keeper.sessions.list(), "one link is one guest").toHaveLength(1);
  const cookie = cookieOf(await press());
  expect((await ask(scene, "/", { headers: { cookie } })).status).toBe(200);
  for (const form of [{ page: another }, { page: "" }, {}])
    expect((await press(form as Record<string, string>)).status, "another's page").toBe(404);
  await scene.keeper.removePass(link.id);
  expect((await press()).status, "put out meanwhile").toBe(404);
});

test("a link that was used is over for its own page, too, after two minutes", async () => {
  const clock = new FakeClock();
  const scene = await stage({ clock });
  const wish = { door: "friends", name: "Carol", lifeMs: 600_000, isOnce: true };
  const { token } = await scene.keeper.passes.create(wish);
  const press = () => ask(scene, `/.sallyport/door/friends/link/${token}`, { form: { page: "x" } });
  expect((await press()).status).toBe(303);
  clock.advance(119_000);
  expect((await press()).status).toBe(303);
  clock.advance(1000);
  expect((await press()).status).toBe(404);
});

test("a guest who was inside, and opened the link that he had kept, was told that it is over", async () => {
  const scene = await stage();
  const wish = { door: "friends", name: "Carol", lifeMs: 600_000, isOnce: true };
  const { token } = await scene.keeper.passes.create(wish);
  const path = `/.sallyport/door/friends/link/${token}?to=/photos`;
  const cookie = cookieOf(await ask(scene, path, { form: {} }));
  const again = await ask(scene, path, { headers: { cookie } });
  expect([again.status, again.headers.location]).toEqual([303, "/photos"]);
  expect((await ask(scene, path)).status, "another browser").toBe(404);
  scene.keeper.sessions.revoke(() => true);
  expect((await ask(scene, path, { headers: { cookie } })).status, "put out").toBe(404);
});
