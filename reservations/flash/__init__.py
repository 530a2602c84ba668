"""Flash sales: one hot row of stock, thousands of buyers, counted down in Redis."""

from reservations.flash.sales import FlashSales

__all__ = ["FlashSales"]
