"""The transformations of the batch jobs as Ibis expressions, the same for DuckDB and for Spark.

Days and hours are whole numbers since 1970: not every engine has windows over dates, nor the same time zone. Sums of
products are decimals of 38 digits: exact, and an error instead of a wrong number where that is not enough. What the
metrics mean is defined in `velocity.py` and `trend.py`.
"""

import ibis
from ibis import ir

from services.pipeline.trend import CRITICAL_T, TREND_DAYS
from services.pipeline.velocity import DEMAND_TYPES, WINDOWS_DAYS

STOCK_ITEM = ["sku", "warehouse_id"]
TURNOVER_DAYS = (30, 90)
DAYS_PER_YEAR = 365
HOURS_PER_DAY = 24
MICROSECONDS_PER_HOUR = 3_600_000_000
MICROSECONDS_PER_DAY = HOURS_PER_DAY * MICROSECONDS_PER_HOUR
EXACT = "decimal(38, 0)"
X_MOST_CV, Y_MOST_CV = 0.5, 1.0
# sum of d and n sum(d^2) - (sum d)^2 for d in 0..29.
_SUM_D = sum(range(TREND_DAYS))
_SXX = TREND_DAYS * sum(day * day for day in range(TREND_DAYS)) - _SUM_D**2


def item_days(entries: ir.Table) -> ir.Table:
    """One row per sku, warehouse and day with entries: what moved. `entries` are ledger entries."""
    change = entries.quantity_change
    return entries.group_by(*STOCK_ITEM, "day").aggregate(
        entries=entries.count(),
        units_in=change.clip(lower=0).sum(),
        units_out=(-change).clip(lower=0).sum(),
        net_change=change.sum(),
        demand=entries.transaction_type.isin(DEMAND_TYPES).ifelse(-change, 0).sum(),
    )


def demand_of_moved_items(entries: ir.Table, day: int) -> ir.Table:
    """Demand (`demand_30`) of the stock items that have an entry of `day`; `entries` are those of 30 days up to it."""
    days = item_days(entries)
    moved = days.filter(days.day == day).select(*STOCK_ITEM)
    return days.semi_join(moved, STOCK_ITEM).group_by(*STOCK_ITEM).aggregate(demand_30=lambda row: row.demand.sum())


def snapshots(days: ir.Table, dates: ir.Table) -> ir.Table:
    """One row per stock item and date of `dates` (column `day`) that had moved by then: the stock at the day's end."""
    last = dates.aggregate(last=dates.day.max())
    moved = days.cross_join(last).filter(lambda row: row.day <= row.last).drop("last")
    first_days = moved.group_by(*STOCK_ITEM).aggregate(first_day=moved.day.min())
    wanted = first_days.cross_join(dates).filter(lambda row: row.day >= row.first_day)
    zero = ibis.literal(0, "int64")
    movements = moved.select(*STOCK_ITEM, "day", "units_in", "units_out", "net_change", is_wanted=zero)
    nothing = wanted.select(*STOCK_ITEM, "day", units_in=zero, units_out=zero, net_change=zero, is_wanted=zero + 1)
    rows = movements.union(nothing).group_by(*STOCK_ITEM, "day")
    summed = rows.aggregate(
        units_in=lambda row: row.units_in.sum(),
        units_out=lambda row: row.units_out.sum(),
        net_change=lambda row: row.net_change.sum(),
        is_wanted=lambda row: row.is_wanted.max(),
    )
    so_far = ibis.cumulative_window(group_by=STOCK_ITEM, order_by="day")
    stock = summed.mutate(quantity_on_hand=summed.net_change.sum().over(so_far))
    return stock.filter(stock.is_wanted == 1).select(*STOCK_ITEM, "day", "quantity_on_hand", "units_in", "units_out")


def as_of(rows: ir.Table, versions: ir.Table, key: str) -> ir.Table:
    """Rows with the version of `key` that held at their instant (column `at`), nulls where none is known."""
    holds = (versions.valid_from <= rows["at"]) & (rows["at"] < versions.valid_to)
    return rows.left_join(versions, [rows[key] == versions[key], holds]).drop(f"{key}_right", "valid_from", "valid_to")


def enriched(stock: ir.Table, products: ir.Table, categories: ir.Table, warehouses: ir.Table) -> ir.Table:
    """Snapshots with the names of product, category and warehouse, and the value of the stock, as the day ended."""
    rows = stock.mutate(at=_end_of(stock.day))
    for versions, key in ((products, "sku"), (categories, "category_id"), (warehouses, "warehouse_id")):
        rows = as_of(rows, versions, key)
    value = rows.quantity_on_hand.cast(EXACT) * rows.unit_cost_micros.cast(EXACT)
    return rows.mutate(stock_value_micros=value).drop("unit_cost_micros", "at")


def _end_of(day: ir.Value) -> ir.Value:
    return (day.cast("int64") + 1) * MICROSECONDS_PER_DAY - 1


def metrics(days: ir.Table, stock: ir.Table) -> ir.Table:
    """One row per row of `stock` (snapshots): velocity, trend, turnover and days of supply as of its day.

    `days` holds the movements of at least the 90 days up to each day of `stock`.
    """
    zero = ibis.literal(0, "int64")
    moved = days.select(*STOCK_ITEM, "day", "demand", "net_change", quantity_on_hand=zero, is_wanted=zero)
    asked = stock.select(*STOCK_ITEM, "day", "quantity_on_hand", demand=zero, net_change=zero, is_wanted=zero + 1)
    rows = moved.union(asked.select(moved.columns)).group_by(*STOCK_ITEM, "day")
    series = rows.aggregate(
        demand=lambda row: row.demand.sum(),
        net_change=lambda row: row.net_change.sum(),
        quantity_on_hand=lambda row: row.quantity_on_hand.sum(),
        is_wanted=lambda row: row.is_wanted.max(),
    )
    summed = _window_sums(series).filter(lambda row: row.is_wanted == 1)
    return _figures(summed)


def classified(figures: ir.Table, products: ir.Table) -> ir.Table:
    """Metrics with the classes of their stock items among all those of the same warehouse and day.

    `abc_class`: by use value, the demand of 90 days x the unit cost as the day ended. From the largest on, ties by sku
    in byte order, items are A while the sum, their own value included, is at most 80 % of the warehouse's, B while it
    is at most 95 %, then C: so one item of more than 80 % is no A. C without demand; null with demand and no known
    cost, which the sum leaves out.

    `xyz_class`: by the coefficient of variation of daily demand over 90 days, sample standard deviation / mean: X to
    0.5, Y to 1, then Z; null without demand.

    Source: Silver, Pyke & Thomas (2017), Inventory and Production Management in Supply Chains, ch. 2; limits as usual.
    """
    costs = products.select("sku", "valid_from", "valid_to", "unit_cost_micros")
    rows = as_of(figures.mutate(at=_end_of(figures.day)), costs, "sku").drop("at")
    value = rows.demand_90.cast(EXACT) * rows.unit_cost_micros.cast(EXACT)
    rows = rows.mutate(use_value=(rows.demand_90 > 0).ifelse(value, 0).cast(EXACT))
    among = ["day", "warehouse_id"]
    ranked = ibis.cumulative_window(group_by=among, order_by=[rows.use_value.desc(), rows.sku])
    rows = rows.mutate(
        so_far=rows.use_value.sum().over(ranked).cast(EXACT),
        total=rows.use_value.sum().over(ibis.window(group_by=among)).cast(EXACT),
    )
    abc_class = ibis.cases(
        (rows.use_value.isnull(), None),
        (rows.use_value == 0, "C"),
        (5 * rows.so_far <= 4 * rows.total, "A"),
        (20 * rows.so_far <= 19 * rows.total, "B"),
        else_="C",
    )
    xyz_class = ibis.cases(
        (rows.velocity_90 <= 0, None),
        (rows.sd_daily_90 <= X_MOST_CV * rows.velocity_90, "X"),
        (rows.sd_daily_90 <= Y_MOST_CV * rows.velocity_90, "Y"),
        else_="Z",
    )
    return rows.mutate(abc_class=abc_class, xyz_class=xyz_class).drop(
        "unit_cost_micros", "use_value", "so_far", "total"
    )


def _window_sums(series: ir.Table) -> ir.Table:
    """Exact sums over the days up to and with each row's day."""
    demand, day = series.demand.cast(EXACT), series.day.cast(EXACT)
    series = series.mutate(
        squares=demand * demand, moments=demand * day, net_moments=series.net_change.cast(EXACT) * day
    )

    def over(column: str, window_days: int) -> ir.Value:
        window = ibis.range_window(preceding=window_days - 1, following=0, group_by=STOCK_ITEM, order_by="day")
        return series[column].sum().over(window)

    return series.mutate(
        **{f"demand_{window}": over("demand", window) for window in WINDOWS_DAYS},
        **{f"squares_{window}": over("squares", window) for window in WINDOWS_DAYS},
        demand_60=over("demand", 2 * TREND_DAYS),
        moments_30=over("moments", TREND_DAYS),
        **{f"net_{window}": over("net_change", window) for window in TURNOVER_DAYS},
        **{f"net_moments_{window}": over("net_moments", window) for window in TURNOVER_DAYS},
    )


def _figures(summed: ir.Table) -> ir.Table:
    day, demand_30 = summed.day.cast(EXACT), summed.demand_30.cast(EXACT)
    # In the trend the days are numbered 0..29, the last of them is `day`.
    sxy = TREND_DAYS * (summed.moments_30 - (day - (TREND_DAYS - 1)) * demand_30) - _SUM_D * demand_30
    syy = TREND_DAYS * summed.squares_30 - demand_30 * demand_30
    summed = summed.mutate(sxy=sxy.cast(EXACT), residual=(_SXX * syy - sxy * sxy).cast(EXACT))
    t_statistic = (summed.residual > 0).ifelse(
        summed.sxy.cast("float64") * float((TREND_DAYS - 2) ** 0.5) / summed.residual.cast("float64").sqrt(), None
    )
    before = summed.demand_60 - summed.demand_30
    velocity_30 = summed.demand_30.cast("float64") / TREND_DAYS
    return summed.mutate(t_statistic=t_statistic).select(
        *STOCK_ITEM,
        "day",
        "quantity_on_hand",
        *(f"demand_{window}" for window in WINDOWS_DAYS),
        **{f"velocity_{window}": summed[f"demand_{window}"].cast("float64") / window for window in WINDOWS_DAYS},
        **{f"sd_daily_{window}": _sample_sd(summed, window) for window in WINDOWS_DAYS},
        change_ratio_30d=(summed.demand_30 - before).cast("float64") / before.nullif(0).cast("float64"),
        slope_per_day=summed.sxy.cast("float64") / _SXX,
        t_statistic=lambda row: row.t_statistic,
        direction=lambda row: _direction(row),
        **{f"turnover_{window}": _turnover(summed, window) for window in TURNOVER_DAYS},
        days_of_supply=(velocity_30 > 0).ifelse(summed.quantity_on_hand.cast("float64") / velocity_30, None),
    )


def _sample_sd(summed: ir.Table, window: int) -> ir.Value:
    demand = summed[f"demand_{window}"].cast(EXACT)
    scatter = (window * summed[f"squares_{window}"] - demand * demand).cast("float64")
    return (scatter / (window * (window - 1))).sqrt()


def _direction(row: ir.Table) -> ir.Value:
    is_flat = (row.sxy == 0) | (row.t_statistic.notnull() & (row.t_statistic.abs() < CRITICAL_T))
    return is_flat.ifelse("FLAT", (row.sxy > 0).ifelse("UP", "DOWN"))


def _turnover(summed: ir.Table, window: int) -> ir.Value:
    """Units sold / mean daily stock, annualised; null without stock.

    A change of day t is missing in the stock of the days of the window before t, of which there are
    t - (day - window + 1): so sum(stock) = window x stock at the end - sum(change x that number).
    """
    first_day = summed.day.cast(EXACT) - (window - 1)
    missing = summed[f"net_moments_{window}"] - first_day * summed[f"net_{window}"].cast(EXACT)
    stock_days = (window * summed.quantity_on_hand.cast(EXACT) - missing).cast("float64")
    sold = summed[f"demand_{window}"].cast("float64")
    return (stock_days > 0).ifelse(sold / (stock_days / window) * (DAYS_PER_YEAR / window), None)


def aggregates(entries: ir.Table, products: ir.Table, grain: str) -> ir.Table:
    """Movements per hour, day or week (`grain`), and per sku, warehouse and category. `entries` are ledger entries.

    Opening balances are no movements. Value: quantity change x unit price (SALE, RETURN) or unit cost (all others).
    The category is the one that the product had when the hour of the entry began.
    """
    moved = entries.filter(entries.transaction_type != "OPENING_BALANCE")
    moved = moved.mutate(at=moved.hour.cast("int64") * MICROSECONDS_PER_HOUR)
    moved = as_of(moved, products.select("sku", "valid_from", "valid_to", "category_id"), "sku")
    is_demand = moved.transaction_type.isin(DEMAND_TYPES)
    worth = is_demand.ifelse(moved.unit_price_micros, moved.unit_cost_micros).fill_null(0)
    # 1970 began on a Thursday, so day -3 was a Monday.
    bucket_hour = {
        "hour": moved.hour,
        "day": moved.day * HOURS_PER_DAY,
        "week": (moved.day - (moved.day + 3) % 7) * HOURS_PER_DAY,
    }[grain]
    moved = moved.mutate(
        bucket_hour=bucket_hour.cast("int32"),
        demand=is_demand.ifelse(-moved.quantity_change, 0),
        value_micros=moved.quantity_change.cast(EXACT) * worth.cast(EXACT),
        category_id=moved.category_id.fill_null(""),
    )
    by_key = [
        moved.group_by("bucket_hour", key=moved[column])
        .aggregate(
            movements=moved.count(),
            units_in=moved.quantity_change.clip(lower=0).sum(),
            units_out=(-moved.quantity_change).clip(lower=0).sum(),
            demand=moved.demand.sum(),
            value_micros=moved.value_micros.sum(),
        )
        .mutate(dimension=ibis.literal(dimension), grain=ibis.literal(grain))
        for dimension, column in (("sku", "sku"), ("warehouse", "warehouse_id"), ("category", "category_id"))
    ]
    return ibis.union(*by_key)
