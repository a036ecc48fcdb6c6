// The stand-in for a store in the agent's unit tests does what every subnet manager does.

import t from 'tap';
import { subnetManagerSuite } from '../compliance/subnet-manager.ts';
import { memoryStore } from './fixtures/memory-store.ts';

subnetManagerSuite(t, async () => {
  const store = memoryStore();
  return {
    async putConfig(text) {
      store.config = text;
    },
    remove: async (lease) => store.remove(lease),
    open: store.open,
    close: async () => undefined,
  };
});
