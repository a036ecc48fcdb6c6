// A fake kernel for the suites.

import { createFakeKernel } from '../../kernel/fake.ts';
import type { Setup } from './kernel-subject.ts';

const PATH = '/run/netns/subject';
const OTHER = '/run/netns/other';

export const fakeSubject: Setup = () => {
  const kernel = createFakeKernel();
  kernel.addNamespace(PATH);
  kernel.addNamespace(OTHER);
  const other = kernel.openNamespace(OTHER);
  return {
    kernel,
    namespace: kernel.openNamespace(PATH),
    other,
    path: PATH,
    notANamespace: undefined,
    removeOther() {
      other.close();
      kernel.removeNamespace(OTHER);
    },
    close: () => kernel.close(),
  };
};
