-- The pulse alone.
return pulse()
