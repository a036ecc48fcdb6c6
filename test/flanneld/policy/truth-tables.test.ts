// The 48 literal tables, held against the matcher of the tests and against the compiled table, stage after stage.

import t from 'tap';
import { createCompiler } from '../../../flanneld/policy/compile.ts';
import { CATALOGUE, PODS } from './catalogue.ts';
import { answerTo, firstOf, tableOf } from './compiled.ts';
import { judgePacket } from './interpret.ts';
import { mayPass } from './oracle.ts';
import { addressOf, CASES, clusterAt, expected } from './truth-tables.ts';

t.equal(CASES.length, 48);

for (const each of CASES) {
  t.test(each.title, async (t) => {
    const compiler = createCompiler('closed');
    for (const stage of each.stages) {
      const cluster = clusterAt(each, stage);
      const table = tableOf(cluster, { mode: 'cut', stamp: 1 }, compiler);
      const wrong = stage.probes.flatMap((probe) =>
        each.pods.flatMap((from) =>
          each.pods
            .filter((to) => to !== from)
            .flatMap((to) =>
              ([4, 6] as const).flatMap((family) => {
                const ends = { from: addressOf(from, family), to: addressOf(to, family) };
                const packet = { ...ends, protocol: probe.protocol, port: probe.port };
                const want = expected(probe, from, to);
                const found = {
                  matcher: mayPass(cluster, packet),
                  table: judgePacket(table, firstOf(packet)).passes,
                  answers: judgePacket(table, answerTo(packet)).passes,
                };
                return Object.entries(found)
                  .filter(([, passes]) => passes !== want)
                  .map(
                    ([who]) => `${who}: ${from} to ${to}, ${probe.protocol} ${probe.port}, IPv${family}: not ${want}`,
                  );
              }),
            ),
        ),
      );
      t.same(wrong, []);
    }
  });
}

t.test('the catalogue, by the matcher', async (t) => {
  t.equal(CATALOGUE.length, 230);
  t.equal(new Set(CATALOGUE.map(({ title }) => title)).size, 230);
  for (const { title, steps } of CATALOGUE) {
    const compiler = createCompiler('closed');
    const wrong = steps.flatMap((cluster) => {
      const table = tableOf(cluster, { mode: 'cut', stamp: 1 }, compiler);
      return PODS.flatMap((from) =>
        PODS.filter((to) => to !== from).flatMap((to) =>
          ([4, 6] as const).flatMap((family) =>
            (['TCP', 'UDP', 'SCTP'] as const).flatMap((protocol) =>
              [80, 81].flatMap((port) => {
                const packet = { from: addressOf(from, family), to: addressOf(to, family), protocol, port };
                const same = judgePacket(table, firstOf(packet)).passes === mayPass(cluster, packet);
                return same ? [] : [`${from} to ${to}, ${protocol} ${port}, IPv${family}`];
              }),
            ),
          ),
        ),
      );
    });
    if (wrong.length > 0) t.fail(title, { wrong });
  }
});
