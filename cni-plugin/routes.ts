// Routes of a pod: from the result's form to the kernel's, and beside those that the pod has already. Pure.

import type { CniRoute } from '../model/cni.ts';
import { NetError } from '../model/errors.ts';
import { type Family, familyOf, type Ip } from '../model/ip.ts';
import { MAIN_TABLE, type Route, type RouteScope } from '../model/state.ts';

/** The names that kernel/ reads scopes back with (linux/rtnetlink.h). */
const SCOPES: ReadonlyMap<number, RouteScope> = new Map<number, RouteScope>([
  [0, 'global'],
  [200, 'site'],
  [253, 'link'],
  [254, 'host'],
]);
/** What the kernel takes for a route without a metric; for IPv6 that is IP6_RT_PRIO_USER. */
const DEFAULT_METRIC: Record<Family, number> = { 4: 0, 6: 1024 };

/** The routes on a device, each once; one without a gateway of its own goes to its family's. */
export function podRoutes(
  routes: readonly CniRoute[],
  device: string,
  gatewayOf: (family: Family) => Ip | undefined,
): Route[] {
  const all = routes.map((route) => podRoute(route, device, gatewayOf(familyOf(route.dst))));
  return [...new Map(all.map((route) => [JSON.stringify(route), route])).values()];
}

/** IPv6 routes have no scope of their own: the kernel ignores it. */
function podRoute(route: CniRoute, device: string, gateway: Ip | undefined): Route {
  const { dst, gw, mtu, advmss, priority, table, scope } = route;
  const scoped = scope !== undefined && familyOf(dst) === 4;
  return {
    destination: dst,
    device,
    via: gw ?? gateway,
    ...(mtu !== undefined && { mtu }),
    ...(advmss !== undefined && { advmss }),
    ...(priority !== undefined && priority !== 0 && { metric: priority }),
    ...(table !== undefined && table !== 0 && { table }),
    ...(scoped && { scope: SCOPES.get(scope) ?? scope }),
  };
}

/**
 * The routes with metrics that let them stand behind what the pod has: a second interface's default route does not take
 * the first one's place, and is not refused.
 * @throws NetError foreign-object when a route that names its metric is there with another next hop
 */
export function behind(
  routes: readonly CniRoute[],
  device: string,
  gatewayOf: (family: Family) => Ip | undefined,
  have: readonly Route[],
): CniRoute[] {
  return routes.map((route) => {
    const family = familyOf(route.dst);
    const { via, metric, table = MAIN_TABLE } = podRoute(route, device, gatewayOf(family));
    const metricOf = (other: Route) => other.metric ?? DEFAULT_METRIC[family];
    const others = have.filter(
      (other) =>
        table === MAIN_TABLE && other.destination === route.dst && (other.device !== device || other.via !== via),
    );
    if (!others.some((other) => metricOf(other) === (metric ?? DEFAULT_METRIC[family]))) return route;
    if (metric === undefined) return { ...route, priority: Math.max(...others.map(metricOf)) + 1 };
    throw new NetError('foreign-object', `a route to ${route.dst} with metric ${metric} is there already`, {
      subject: route.dst,
    });
  });
}
