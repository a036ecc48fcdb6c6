// The client of `flanneld policy` before agents that answer, refuse, say nothing for long, and nothing at all.

import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { askPolicy } from '../../../flanneld/policy/ask.ts';
import type { WhyQuestion } from '../../../flanneld/policy/why.ts';
import { statusSocketPath } from '../../../flanneld/status-socket.ts';
import { ip } from '../../../model/ip.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const QUESTION: WhyQuestion = { from: ip('10.1.0.1'), to: ip('10.1.0.2'), port: 80, protocol: 'TCP' };
/** Sockets have short paths. */
const directory = temporaryDirectory(t);
let agents = 0;

/** What a command prints, and its exit code, when an agent answers so. */
async function asked(t: Test, question: WhyQuestion | undefined, agent: RequestListener, answerMs?: number) {
  const subnetFile = join(directory, `${++agents}.env`);
  const server = createServer(agent);
  await new Promise<void>((resolve) => server.listen(statusSocketPath(subnetFile), resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const printed: string[] = [];
  const write = (text: string) => void printed.push(text);
  const exitCode = await askPolicy({ question, subnetFile, json: true }, write, answerMs);
  return { exitCode, printed: printed.join('') };
}

t.test('why: the answer and its exit code', async (t) => {
  const answer =
    (problem?: string): RequestListener =>
    (_, response) =>
      response.end(
        `${JSON.stringify({ flows: [{ verdict: 'denied', sides: [], kernel: {}, differs: false }], problem })}\n`,
      );
  t.match(await asked(t, QUESTION, answer()), { exitCode: 1, printed: /^\{.*denied.*\}\n$/ });
  t.match(await asked(t, QUESTION, answer('nobody knows 10.1.0.1')), { exitCode: 2 });
});

t.test('an agent that says why not', async (t) => {
  const refusing: RequestListener = (_, response) =>
    response.writeHead(503).end('the agent runs without --policy-source\n');
  const message = 'the agent runs without --policy-source';
  for (const question of [QUESTION, undefined])
    await t.rejects(asked(t, question, refusing), { code: 'agent-refused', message });
});

t.test('trace: lines as they come, however they are cut, after any silence', async (t) => {
  const traced = asked(
    t,
    undefined,
    async (_, response) => {
      response.flushHeaders();
      for (const part of ['{"a":', '1}\n{"b":2}\n{"c', '":3}\n']) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        response.write(part);
      }
      response.end();
    },
    50,
  );
  t.same(await traced, { exitCode: 0, printed: '{"a":1}\n{"b":2}\n{"c":3}\n' });
});

t.test('nobody there, and somebody who never answers', async (t) => {
  const absent = { question: undefined, subnetFile: join(directory, 'none.env'), json: false };
  await t.rejects(
    askPolicy(absent, () => undefined),
    { code: 'no-agent', message: /none\.sock: ENOENT$/ },
  );
  await t.rejects(
    asked(t, QUESTION, () => undefined, 50),
    { code: 'no-agent', message: /no answer in time$/ },
  );
});
