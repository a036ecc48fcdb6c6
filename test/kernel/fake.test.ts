// The fake kernel behaves as the real one: the suites that test/root/kernel.test.ts runs there.

import { kernelCompliance } from '../compliance/kernel.ts';
import { fakeSubject } from '../compliance/kernel-fake-subject.ts';
import { kernelRulesets } from '../compliance/kernel-rulesets.ts';
import { kernelStates } from '../compliance/kernel-states.ts';
import { count } from '../support/count.ts';

kernelCompliance('fake kernel', fakeSubject);
kernelStates('fake kernel', fakeSubject, count(10_000));
kernelRulesets('fake kernel', fakeSubject, count(10_000));
