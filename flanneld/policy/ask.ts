// The client of `flanneld policy`: asks the agent's status socket and prints what it says.

import { request } from '../http.ts';
import { noAgent, statusSocketPath } from '../status-socket.ts';
import { type PolicyCommand, printTraced, printWhy, refused, TRACE_PATH, whyPath } from './command.ts';
import type { TraceLine } from './named.ts';
import type { WhyAnswer } from './why.ts';

const MOST_LINE_BYTES = 1 << 20;
/** By then an agent has begun to answer, or does nothing any more. */
const ANSWER_MS = 5000;

/**
 * Prints the answer; of a trace, until the agent ends it. `answerMs`: until the answer begins.
 * @returns the exit code @throws NetError no-agent, agent-refused
 */
export async function askPolicy(
  command: PolicyCommand,
  write: (text: string) => void,
  answerMs = ANSWER_MS,
): Promise<number> {
  const { question, subnetFile, json } = command;
  const place = { socketPath: statusSocketPath(subnetFile), timeout: answerMs };
  if (question === undefined) {
    await ask(place, TRACE_PATH, (line) => write(json ? `${line}\n` : printTraced(JSON.parse(line) as TraceLine)));
    return 0;
  }
  let exitCode = 2;
  await ask(place, whyPath(question), (line) => {
    const printed = printWhy(JSON.parse(line) as WhyAnswer, question);
    exitCode = printed.exitCode;
    write(json ? `${line}\n` : printed.text);
  });
  return exitCode;
}

interface Place {
  readonly socketPath: string;
  readonly timeout: number;
}

/** Hands over line by line. @throws NetError no-agent; agent-refused: it says why not */
function ask(place: Place, path: string, onLine: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => reject(noAgent(place.socketPath, cause));
    const call = request({ ...place, path }, (response) => {
      // A trace says nothing while nothing is dropped.
      call.setTimeout(0);
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = (lines.pop() ?? '').slice(0, MOST_LINE_BYTES);
        if (response.statusCode === 200) for (const line of lines) onLine(line);
        else if (lines.length > 0) reject(refused(lines.join(' ')));
      });
      response.on('error', fail);
      response.on('end', resolve);
    });
    call.on('error', fail);
    call.on('timeout', () => call.destroy(new Error('no answer in time')));
    call.end();
  });
}
