// Deleting links of the real kernel, many at once. The process starts itself again in a network namespace of its own.

import { execFileSync } from 'node:child_process';
import t from 'tap';
import { openKernel } from '../../kernel/open.ts';
import { openLinkRemover } from '../../kernel/remove-links.ts';
import type { Mac } from '../../model/ip.ts';
import { inside, runInside } from '../support/inside.ts';

const ip = (...args: readonly string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });

function suite(): void {
  const kernel = openKernel();
  const remover = openLinkRemover();
  const linksOf = () =>
    kernel
      .read(kernel.host, { links: 'all' })
      .links.map(({ name }) => name)
      .sort();
  const macOf = (n: number): Mac => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}` as Mac;
  /** A pair whose other end is in the same namespace. */
  const add = (n: number) => {
    const link = { name: `host${n}`, kind: 'veth', mac: macOf(n) };
    const value = { ...link, up: true, master: 'br0', peer: { name: `pod${n}` } };
    t.strictSame(kernel.apply(kernel.host, [{ verb: 'add', item: { type: 'link', value } }]), []);
    return link;
  };
  const addBridge = () => {
    const value = { name: 'br0', kind: 'bridge', up: true };
    t.strictSame(kernel.apply(kernel.host, [{ verb: 'add', item: { type: 'link', value } }]), []);
  };

  t.test('many at once, and only those', async (t) => {
    addBridge();
    const doomed = Array.from({ length: 100 }, (_, n) => add(n));
    const other = add(100);
    const started = performance.now();
    const removed = await Promise.all(doomed.map((link) => remover.remove(link)));
    t.comment(`100 pairs: ${(performance.now() - started).toFixed(0)} ms`);
    t.ok(removed.every((each) => each));
    t.strictSame(linksOf(), ['br0', 'host100', 'lo', 'pod100']);
    t.equal(await remover.remove(other), true);
    t.equal(await remover.remove(other), false, 'gone already');
    t.strictSame(linksOf(), ['br0', 'lo']);
  });

  t.test('another link of that name stays', async (t) => {
    const link = add(1);
    const wrong = [
      { ...link, mac: macOf(2) },
      { ...link, kind: 'ifb' },
      { ...link, name: 'br0', mac: macOf(1) },
      { ...link, name: 'none' },
      { ...link, name: 'lo' },
    ];
    t.strictSame(await Promise.all(wrong.map((each) => remover.remove(each))), [false, false, false, false, false]);
    t.strictSame(linksOf(), ['br0', 'host1', 'lo', 'pod1']);
    const { kind: _, ...rest } = link;
    t.equal(await remover.remove(rest), true, 'a veth, unless it says otherwise');
  });

  t.test('one that vanishes meanwhile, and the same one twice', async (t) => {
    const links = [1, 2, 3].map(add);
    const removals = [...links, ...links].map((link) => remover.remove(link));
    ip('link', 'delete', 'host2');
    const [one, two, three] = await Promise.all(removals);
    t.strictSame([one, two, three], [true, false, true]);
    t.strictSame(linksOf(), ['br0', 'lo']);
  });

  t.test('a stranger in the group stays, and costs nobody anything', async (t) => {
    const groups = [4242, 4242, 4242, 4242, 4242, 4243];
    const used: ReadonlySet<number>[] = [];
    const unlucky = openLinkRemover((seen) => {
      used.push(seen);
      return groups.shift() as number;
    });
    ip('link', 'set', 'lo', 'group', '4242');
    const links = [1, 2, 3].map(add);
    t.strictSame(await Promise.all(links.map(unlucky.remove)), [true, true, true], 'one by one');
    t.strictSame(linksOf(), ['br0', 'lo']);
    t.strictSame(
      used.map((seen) => seen.has(4242)),
      [false, false, false, false, false, true],
      'then in another group',
    );
    t.strictSame(await Promise.all([4, 5].map(add).map(unlucky.remove)), [true, true]);
    t.strictSame(linksOf(), ['br0', 'lo']);
    ip('link', 'set', 'lo', 'group', 'default');
    unlucky.close();
  });

  t.test('a removal that has been answered is over for everybody', async (t) => {
    for (let n = 1; n <= 20; n++) {
      const link = add(n);
      t.equal(await remover.remove(link), true);
      t.strictSame(linksOf(), ['br0', 'lo']);
    }
  });

  t.test('links come while others go', async (t) => {
    const doomed = Array.from({ length: 64 }, (_, n) => add(n));
    let over = false;
    const removal = Promise.all(doomed.map((link) => remover.remove(link))).then(() => {
      over = true;
    });
    const made: ReturnType<typeof add>[] = [];
    for (let n = 100; !over && n < 200; n++) {
      made.push(add(n));
      await new Promise(setImmediate);
    }
    await removal;
    t.ok(made.length > 0, `${made.length} came`);
    await Promise.all(made.map((link) => remover.remove(link)));
    t.strictSame(linksOf(), ['br0', 'lo']);
  });
  t.teardown(() => {
    remover.close();
    kernel.close();
  });
}

if (inside === undefined) {
  await runInside(t, import.meta.filename, 'remove');
} else {
  suite();
}
