// What `flanneld policy` asks of the agent, on the status socket: /policy/why has one answer, /policy/trace goes on, a line of
// JSON for each packet, until the client hangs up.

import type { RequestListener, ServerResponse } from 'node:http';
import { describe } from '../../model/errors.ts';
import { questionIn, TRACE_PATH, WHY_PATH } from './command.ts';
import type { TraceLine } from './named.ts';
import type { WhyAnswer, WhyQuestion } from './why.ts';

export interface PolicyAnswers {
  /** @throws NetError kernel */
  why(question: WhyQuestion): WhyAnswer;
  /** Tells of samples until the returned function is called. @throws NetError not-ready without --policy-log-denied, kernel */
  trace(onLine: (line: TraceLine) => void): () => void;
}

/** By path. `answers` undefined: the agent enforces no policies, and says so. */
export function policyRoutes(answers: PolicyAnswers | undefined): ReadonlyMap<string, RequestListener> {
  const guarded =
    (answer: (answers: PolicyAnswers, path: string, response: ServerResponse) => void): RequestListener =>
    (request, response) => {
      try {
        if (answers === undefined) return refuse(response, 'the agent runs without --policy-source');
        answer(answers, request.url ?? '', response);
      } catch (error) {
        refuse(response, describe(error));
      }
    };
  return new Map([
    [WHY_PATH, guarded(({ why }, path, response) => send(response, `${JSON.stringify(why(questionIn(path)))}\n`))],
    [TRACE_PATH, guarded(follow)],
  ]);
}

function send(response: ServerResponse, body: string): void {
  response.writeHead(200, { 'content-type': 'application/json', connection: 'close' });
  response.end(body);
}

function refuse(response: ServerResponse, text: string): void {
  response.writeHead(503, { 'content-type': 'text/plain', connection: 'close' });
  response.end(`${text}\n`);
}

/** Lines that a client has not read yet; who reads no faster loses the rest. */
const MOST_UNREAD_BYTES = 1 << 20;

function follow({ trace }: PolicyAnswers, _: string, response: ServerResponse): void {
  const end = trace((line) => {
    if (response.writableLength < MOST_UNREAD_BYTES) response.write(`${JSON.stringify(line)}\n`);
  });
  response.on('close', end);
  response.writeHead(200, { 'content-type': 'application/x-ndjson', connection: 'close' });
  response.flushHeaders();
}
