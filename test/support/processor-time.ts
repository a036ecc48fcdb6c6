// What the tests cost, whatever else the machine is doing meanwhile.

import { readFileSync } from 'node:fs';

/** sysconf(_SC_CLK_TCK), 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Places of cutime and cstime after the name of the program, proc_pid_stat(5). */
const [CUTIME, CSTIME] = [13, 14];

/** Processor seconds, user and system, of the children of this process that have ended, with those that they waited for. */
export function childrenSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[CUTIME]) + Number(fields[CSTIME])) / TICKS_PER_SECOND;
}
