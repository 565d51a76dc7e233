/* model.h: what one generation says: listeners, route tables, pools; and the state that outlives
 * generations. config/ builds it, proxy/ and upstream/ read it. See object.h for lifetimes. */
#ifndef WEIR_MODEL_MODEL_H
#define WEIR_MODEL_MODEL_H

#include "weir/model/action.h"
#include "weir/model/match.h"
#include "weir/model/object.h"
#include "weir/model/parts.h"
#include "weir/model/policy.h"
#include "weir/model/route_table.h"
#include "weir/model/settings.h"
#include "weir/model/snapshot.h"
#include "weir/model/state.h"

#endif
