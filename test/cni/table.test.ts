// The table is complete: every case of the catalogue has a row, or a reason why an executable can't be asked; every mark
// says what it rests on; what is pending is there.

import t from 'tap';
import { CASE_IDS, CATALOGUE, NOT_APPLICABLE, SECTIONS } from './catalogue.ts';
import { PENDING } from './pending.ts';
import { ROWS } from './rows.ts';
import { type Instance, instancesOf, judge } from './run.ts';
import type { Row } from './table.ts';

/** What reference/cni.md lists, by section: whoever adds a case there adds it here. */
const CASES: Readonly<Record<string, number>> = {
  '2a': 70,
  '2b': 37,
  '2c': 64,
  '2d': 53,
  '2e': 32,
  '2f': 16,
  '2g': 9,
};

const covered = new Set(ROWS.flatMap(({ covers }) => covers));

for (const section of SECTIONS) {
  t.test(`${section}: every case has a row, or a reason why it has none`, async (t) => {
    const ids = CASE_IDS.filter((id) => id in CATALOGUE[section]);
    t.equal(ids.length, CASES[section], 'cases');
    t.strictSame(
      ids.filter((id) => !covered.has(id) && NOT_APPLICABLE[id] === undefined),
      [],
      'without a row',
    );
    t.strictSame(
      ids.filter((id) => covered.has(id) && NOT_APPLICABLE[id] !== undefined),
      [],
      'with a row and a reason why there is none',
    );
  });
}

t.test('rows have ids of their own and cover something', async (t) => {
  const ids = ROWS.map(({ id }) => id);
  t.strictSame(
    ids.filter((id, index) => ids.indexOf(id) !== index),
    [],
  );
  t.strictSame(
    ROWS.filter(({ covers }) => covers.length === 0 || new Set(covers).size < covers.length),
    [],
  );
});

t.test('marks cite a section of cni.md or an issue', async (t) => {
  const marks = ROWS.flatMap(({ defects = [] }) => defects);
  t.ok(marks.length > 0);
  t.strictSame(
    marks.filter(({ what, cites }) => what === '' || !/cni\.md \d|\b[pck]#\d+/.test(cites)),
    [],
  );
});

t.test('pending rows are rows, and say why', async (t) => {
  const ids = ROWS.map(({ id }) => id);
  t.strictSame(
    Object.entries(PENDING).filter(([id, { reason }]) => !ids.includes(id) || reason === ''),
    [],
  );
});

const row = (keys: Partial<Row> = {}): Row => ({ id: 'r', covers: [], run: async () => {}, ...keys });
const instance = (keys: Partial<Row> = {}, version: Instance['version'] = '1.0.0'): Instance => ({
  row: row(keys),
  version,
});
const OURS = { release: 'ours', agent: false } as const;
const DEBIAN = { release: '1.1.1', agent: false } as const;
const NEWER = { release: 'newer', agent: false } as const;
const WRONG = new Error('seen otherwise');
const DEFECT = { releases: ['1.1.1'], what: 'lacks it', cites: 'p#1' } as const;

t.test('a row that fails is a failure', async (t) => {
  t.match(judge(instance(), OURS, {}, undefined), { state: 'passed' });
  t.match(judge(instance(), OURS, {}, WRONG), { state: 'failed', details: 'seen otherwise' });
  t.match(judge(instance(), NEWER, {}, WRONG), { state: 'failed' });
});

t.test('a known defect must show, in its release and versions', async (t) => {
  const marked = instance({ defects: [DEFECT] });
  t.match(judge(marked, DEBIAN, {}, WRONG), { state: 'known defect', details: 'lacks it (p#1)' });
  t.match(judge(marked, DEBIAN, {}, undefined), { state: 'failed', details: /the defect is not there/ });
  t.match(judge(marked, NEWER, {}, WRONG), { state: 'failed' });
  t.match(judge(marked, OURS, {}, WRONG), { state: 'failed' }, 'the reference has no say about ours');
  const some = instance({ defects: [{ ...DEFECT, versions: ['0.4.0'] }] });
  t.match(judge(some, DEBIAN, {}, WRONG), { state: 'failed' });
  const race = instance({ defects: [{ ...DEFECT, race: true }] });
  t.match(judge(race, DEBIAN, {}, undefined), { state: 'passed' });
  t.match(judge(race, DEBIAN, {}, WRONG), { state: 'known defect' });
});

t.test('1.1.1 knows no version 1.1.0', async (t) => {
  t.match(judge(instance({}, '1.1.0'), DEBIAN, {}, WRONG), { state: 'known defect' });
  t.match(judge(instance({}, '1.1.0'), DEBIAN, {}, undefined), { state: 'failed' });
});

t.test('what is pending must fail, of ours alone', async (t) => {
  const pending = { r: { reason: 'being written' } };
  t.match(judge(instance(), OURS, pending, WRONG), { state: 'pending', details: 'being written' });
  t.match(judge(instance(), OURS, pending, undefined), { state: 'failed', details: /no longer pending/ });
  t.match(judge(instance(), DEBIAN, pending, WRONG), { state: 'failed' });
  const alone = { r: { reason: 'being written', alone: true } } as const;
  t.match(judge(instance(), OURS, alone, WRONG), { state: 'pending' });
  t.match(judge(instance(), { ...OURS, agent: true }, alone, undefined), { state: 'passed' });
  const some = { r: { reason: 'being written', versions: ['1.1.0'] as const } };
  t.match(judge(instance(), OURS, some, undefined), { state: 'passed' });
});

t.test('few: one version of each row, by turns', async (t) => {
  const versions = ['0.1.0', '0.2.0', '1.1.0'] as const;
  const rows = [row({ versions }), row({ versions }), row({ versions }), row({ versions }), row()];
  const chosen = instancesOf(rows, true).map(({ version }) => version);
  t.strictSame(chosen, ['0.1.0', '0.2.0', '1.1.0', '0.1.0', '1.0.0']);
  t.equal(instancesOf(rows).length, 13);
});
