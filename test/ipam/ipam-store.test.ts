// host-local's behaviour, shown by our ipam. test/root/ipam-host-local.test.ts runs the same against the Go program.

import t from 'tap';
import { ours } from '../compliance/ipam-programs.ts';
import { ipamStoreSuite } from '../compliance/ipam-store.ts';

ipamStoreSuite(t, ours);
